"""The rotation that a GGUF file states, and whether the model that transformers made of it has that rotation.

transformers takes over the settings it knows and passes over the others without a word. So each setting of the
rotation must be one that is compared with the loaded model afterwards, or have a value that changes nothing; any other
stops the export. What is compared is computed here, from the file alone.

Sources: `llama_model::load_hparams` of llama.cpp (which setting means what, and what holds without it); llama.cpp keeps
the factors of Llama 3 and LongRoPE as tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rope_deploy.errors import ModelError
from rope_deploy.models.loading.gguf_header import Header, read_header

FACTORS = ("rope_freqs", "rope_factors_long", "rope_factors_short")
ROPE = ".rope."
# Compared with the model once it is loaded.
COMPARED = ("dimension_count", "dimension_count_swa", "dimension_sections", "freq_base", "freq_base_swa")
# By name, the values that change nothing, everything else being plain as well. llama.cpp reads a factor of 0 as none.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "scaling.type": ("none", "linear"),  # by how much it is linear says the factor
    "scaling.factor": (1, 0),
    "scale_linear": (1, 0),
    "scaling.alpha": (1, 0),
    "scaling.attn_factor": (1,),
    "scaling.yarn_attn_factor": (1,),
    "scaling.yarn_log_multiplier": (0,),
    "scaling.yarn_ext_factor": (0,),
    "scaling.yarn_beta_fast": (32,),  # llama.cpp's own value, as the next
    "scaling.yarn_beta_slow": (1,),
}
# Whatever their value, they count only together with a scaling, which is stated by one of the others.
ONLY_WITH_SCALING = ("scaling.finetuned", "scaling.original_context_length")
# llama.cpp's, where a file states none; and of sliding windows in some architectures, whatever it states.
BASE = 10_000.0
CLOSE = 1e-5  # relative; frequencies are float32, bases and widths differ by far more
COPY_AGAIN = "Give the original model as a Hugging Face folder, whose config.json states the rule."


@dataclass(frozen=True)
class FileRotation:
    """What a file states: width of the rotation and base, the same for sliding windows, and M-RoPE's sections."""

    width: int
    base: float
    sliding_width: int
    sliding_bases: tuple[float, ...]
    stated: Mapping[str, Any]
    sections: tuple[int, ...]


def check_gguf(path: Path) -> FileRotation:
    """What the GGUF file `path` states of its rotation, and what holds where it states nothing.

    Raises ModelError unless it is a sound GGUF file, all of whose settings of a rotation are understood.
    """
    header = read_header(path)
    if lost := [*_factors(header), *_not_understood(header)]:
        raise ModelError(
            f"{path} scales its rotation ({', '.join(lost)}), and transformers does not read that from a GGUF file.",
            exists="It would load with plain frequencies and answer wrongly.",
            todo=COPY_AGAIN,
        )
    return _stated(path, header)


def require_same_rotation(path: Path, stated: FileRotation, model: torch.nn.Module) -> None:
    """Raise ModelError unless every rotation of `model`, loaded from `path`, is one that the file states, and every one
    that it states is there."""
    found = {"": False, "_swa": False}
    for name, inv_freq in model.named_buffers():
        kind = name.rpartition(".")[2]
        if not kind.endswith("inv_freq") or "original" in kind:
            continue
        sliding = "sliding" in name or "local" in name
        width = stated.sliding_width if sliding else stated.width
        bases = stated.sliding_bases if sliding else (stated.base,)
        if not any(_equal(inv_freq, width, base) for base in bases):
            raise _differs(path, stated, name, inv_freq, width, bases)
        found["_swa" if sliding else ""] = True
    for owner in model.modules():
        for name, value in vars(owner).items():
            if name.endswith("attention_scaling") and value != 1:
                raise _different(path, f"Its {name} is {value}, and the file states no scaling.")
    own_swa = any(key.endswith("_swa") and stated.stated[key] != stated.stated.get(key[:-4]) for key in stated.stated)
    if (stated.stated and not found[""]) or (own_swa and not found["_swa"]):
        shown = ", ".join(f"{key} = {value}" for key, value in stated.stated.items())
        raise _different(path, f"The file states {shown}, and no frequencies of the model show it.")
    _require_sections(path, stated, model)


def _factors(header: Header) -> Iterator[str]:
    yield from (name for name in header.tensors if name.rpartition(".")[0].rpartition(".")[2] in FACTORS)


def _not_understood(header: Header) -> Iterator[str]:
    for key, value in header.settings.items():
        owner, found, name = key.partition(ROPE)
        if not found:
            continue
        if owner == header.architecture and (name in COMPARED or name in ONLY_WITH_SCALING):
            continue
        if isinstance(value, (list, type(None))) or value not in NEUTRAL.get(name, ()):
            yield f"{key} = {_shown(value)}"


def _shown(value: Any) -> str:
    return "a list" if value is None else f"{value:g}" if isinstance(value, float) else str(value)[:60]


def _stated(path: Path, header: Header) -> FileRotation:
    settings, prefix = header.settings, f"{header.architecture}."
    own = {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}
    stated = {key: own[f"rope.{key}"] for key in COMPARED if f"rope.{key}" in own}

    def number(name: str, default: float) -> float:
        value = own.get(name, default)
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0
        if not good:
            raise ModelError(
                f"{path} states {prefix}{name} = {_shown(value)}, which is no positive number.",
                todo="Copy the file again from where the model came.",
            )
        return value

    heads = own.get("attention.head_count", 0)
    if isinstance(heads, list):  # one for each layer
        heads = max((count for count in heads if isinstance(count, (int, float))), default=0)
    elif heads:
        heads = number("attention.head_count", 0)
    head = number("attention.key_length", number("embedding_length", 1) // heads if heads else 1)
    width = number("rope.dimension_count", head)
    base = number("rope.freq_base", BASE)
    sliding = number("rope.dimension_count_swa", own.get("attention.key_length_swa", width))
    bases = (number("rope.freq_base_swa", 1),) if "freq_base_swa" in stated else (base, BASE)
    sections = stated.get("dimension_sections") or ()
    if not isinstance(sections, (list, tuple)):
        raise ModelError(
            f"{path} states {prefix}rope.dimension_sections = {_shown(sections)}, which is no list.", todo=COPY_AGAIN
        )
    return FileRotation(int(width), base, int(sliding), bases, stated, tuple(s for s in sections if s))


def _equal(inv_freq: torch.Tensor, width: int, base: float) -> bool:
    """Whether inv_freq [R/2] is base^(−2i/R)."""
    found = inv_freq.detach().double().numpy().reshape(-1)
    if 2 * len(found) != width:
        return False
    return bool(np.allclose(found, base ** (-np.arange(0, width, 2) / width), rtol=CLOSE, atol=0))


def _differs(path: Path, stated: FileRotation, name: str, inv_freq: torch.Tensor, width: int, bases) -> ModelError:
    asked = " or ".join(f"{base:g}" for base in dict.fromkeys(bases))
    return _different(
        path,
        f"{name} has {inv_freq.numel()} frequencies, the last {float(inv_freq.reshape(-1)[-1]):.6g}; the file states "
        f"{width // 2} of base {asked}, the last {bases[0] ** (2 / width - 1):.6g}.",
    )


def _require_sections(path: Path, stated: FileRotation, model: torch.nn.Module) -> None:
    if not stated.sections:
        return
    rule = getattr(getattr(model, "config", None), "rope_parameters", None)
    found = tuple(rule.get("mrope_section") or ()) if isinstance(rule, Mapping) else ()
    if found != stated.sections:
        asked = f"rope.dimension_sections = {list(stated.sections)}"
        raise _different(path, f"The file states {asked}; the model has {list(found) or 'none'}.")


def _different(path: Path, exists: str) -> ModelError:
    return ModelError(
        f"transformers makes another rotation of {path} than the file states.", exists=exists, todo=COPY_AGAIN
    )
