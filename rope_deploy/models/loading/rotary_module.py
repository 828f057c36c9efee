"""A model type's own rotary module, made of a configuration alone, and what it says of the rotation.

It does not share our reading of the settings: a key that the module ignores, or that we ignore, shows here.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from types import ModuleType

import numpy as np
import torch
from transformers import AutoModel, PreTrainedConfig

from rope_deploy.models.library_errors import code_line
from rope_deploy.models.transformers_private import classes_by_configuration
from rope_deploy.rope import RopeSpec, cos_sin

NEAR = 1e-4  # of a frequency, relative; of a cosine, of the factor on it. fp32's own roundings are some 1e-6
POSITIONS = (0, 1, 2, 3, 7, 20)  # angles below 32 radians, which fp32 holds to 2e-6


def rotary_modules(config: PreTrainedConfig) -> Iterator[torch.nn.Module]:
    """The rotary embeddings that the modeling code of transformers makes of `config`.

    The class that belongs to the configuration has it as the annotation of its argument, or is the only one
    of the file that is not of a vision tower; none where that is not plain. Raises whatever a module raises of settings
    that it cannot be made of.
    """
    modeling = _modeling(type(config))
    if modeling is None:
        return
    classes = {
        cls: str(getattr(parameter.annotation, "__name__", parameter.annotation))
        for cls in vars(modeling).values()
        if inspect.isclass(cls) and cls.__module__ == modeling.__name__ and "RotaryEmbedding" in cls.__name__
        if (parameter := inspect.signature(cls.__init__).parameters.get("config"))
    }
    own = [cls for cls, annotation in classes.items() if annotation == type(config).__name__]
    rest = [cls for cls in classes if "Vision" not in cls.__name__]
    for cls in own or (rest if len(rest) == 1 else []):
        yield cls(config)


def _modeling(kind: type[PreTrainedConfig]) -> ModuleType | None:
    """The modeling file beside a configuration's, or the one of another model type that it shares.

    None where it needs a package that is absent: loading the model reports that.
    """
    if not kind.__module__.startswith("transformers.models."):
        return None
    names = [kind.__module__.replace(".configuration_", ".modeling_")]
    if importlib.util.find_spec(names[0]) is None:
        known = classes_by_configuration(AutoModel)
        names = [known[kind].__module__] if kind in known else []
    try:
        return importlib.import_module(names[0]) if names else None
    except ImportError:  # it needs a package that is not here
        return None


def disagreements(config: PreTrainedConfig, specs: Mapping[str, RopeSpec]) -> list[str]:
    """Where the own module of `config` rotates otherwise than `specs` state, one sentence each; [] if it has none."""
    try:
        modules = list(rotary_modules(config))
    except KeyError as error:
        return [f"its rotary module looks for {error.args[0]!r} in rope_parameters, where it is not."]
    except Exception as error:  # its code may raise anything
        return [f"its rotary module cannot be made of these settings: it stops at {code_line(error)}."]
    return [fault for module in modules for fault in _disagreements(module, specs)]


def _disagreements(module: torch.nn.Module, specs: Mapping[str, RopeSpec]) -> Iterator[str]:
    for layer_type, stated in _frequencies(module).items():
        spec = specs.get(layer_type) or (next(iter(specs.values())) if len(specs) == 1 else None)
        if spec is None:
            continue
        where = f"{layer_type}: " if layer_type else ""
        expected = spec.inv_freq(dtype=np.float64)
        if spec.mrope_axes:  # its module keeps them axis by axis, and takes each pair's from there
            stated, expected = np.sort(stated), np.sort(expected)
        if len(stated) != len(expected):
            yield (
                f"{where}{type(module).__name__} rotates {len(stated)} pairs; "
                f"{len(expected)} are read here{_share(spec)}"
            )
        elif not np.allclose(stated, expected, rtol=NEAR, atol=0):
            pair = int(np.argmax(np.abs(stated / expected - 1)))
            yield (
                f"{where}{type(module).__name__} rotates pair {pair} by {stated[pair]:.6g} radians a position; "
                f"{expected[pair]:.6g} are read here."
            )
        else:
            yield from _factors(module, layer_type, spec, where)


def _share(spec: RopeSpec) -> str:
    if spec.rotary_dim == spec.head_dim:
        return "."
    return f", as partial_rotary_factor says, which makes {spec.rotary_dim} elements of {spec.head_dim}."


def _frequencies(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Radians per position of each pair, by layer type ("" for the only rule)."""
    found = {}
    for name, buffer in module.named_buffers():
        last = name.rpartition(".")[2]
        if last.endswith("inv_freq") and "original" not in last and buffer.ndim == 1:
            found[last.removesuffix("inv_freq").rstrip("_")] = buffer.double().numpy()
    return found


def _factors(module: torch.nn.Module, layer_type: str, spec: RopeSpec, where: str) -> Iterator[str]:
    """Its cos and sin in calls below and beyond the length at which the rule changes; none if it cannot be called."""
    limit = spec.original_max_position if spec.depends_on_length else None
    for length in (POSITIONS[-1] + 1,) if limit is None else (min(limit, 21), limit + 1, 2 * limit):
        positions = np.unique([one for one in (*POSITIONS, length - 1) if one < length])
        try:
            with torch.no_grad():
                given = torch.zeros(1, 1, dtype=torch.float32), torch.from_numpy(positions)[None]
                cos, sin = module(*given, **({"layer_type": layer_type} if layer_type else {}))
        except Exception:  # modules differ in what they are given; frequencies were compared above
            return
        few = positions[positions <= POSITIONS[-1]]
        cos, sin = (np.asarray(one.double()).reshape(len(positions), -1)[: len(few)] for one in (cos, sin))
        expected = cos_sin(spec, few, angles="float64", seq_len=length)
        if cos.shape[1] not in (expected[0].shape[1], 2 * expected[0].shape[1]):
            return
        scale, own, ours = max(1.0, spec.attention_scaling_at(length)), _length(cos, sin), _length(*expected)
        if not np.allclose(own, ours, atol=NEAR * scale):
            yield (
                f"{where}{type(module).__name__} scales cos and sin by {own:.6g} in a call of {length} tokens; "
                f"{ours:.6g} is read here."
            )
            return
        if not _same(cos, expected[0], NEAR * scale):
            yield f"{where}{type(module).__name__} rotates otherwise in a call of {length} tokens than is read here."
            return


def _length(cos: np.ndarray, sin: np.ndarray) -> float:
    return float(np.median(np.hypot(cos, sin)))


def _same(cos: np.ndarray, expected: np.ndarray, near: float) -> bool:
    """Whether the cosines are those expected, each once, or each twice: side by side or half by half."""
    width = expected.shape[1]
    if cos.shape[1] == width:
        return np.allclose(cos, expected, atol=near)
    return any(np.allclose(cos, twice, atol=near) for twice in (np.tile(expected, 2), np.repeat(expected, 2, axis=1)))
