"""The PyTorch model behind the same flat names as the exported graph: the reference for every comparison.

Inputs and outputs are those of the artifact (see `rope_deploy.artifact`), taps those of
`rope_deploy.models.reference.taps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import numpy as np
import torch
from transformers import PreTrainedModel

from rope_deploy.artifact import PAST_PREFIX, PRESENT_PREFIX
from rope_deploy.models.kv_cache import GROWING, flat, new_cache
from rope_deploy.models.loaded_model import LoadedModel
from rope_deploy.models.patches.patched import patched
from rope_deploy.models.reference.perturbed_roundings import perturbed
from rope_deploy.models.reference.run_tower import run_tower
from rope_deploy.models.reference.taps import tapping
from rope_deploy.models.reference.wider_type import Widened


def run_reference(
    loaded: LoadedModel, feeds: Mapping[str, np.ndarray], taps: bool = False, *, cache: bool = True
) -> dict[str, np.ndarray]:
    """Run the model once on named numpy inputs; half-precision outputs come back as float32.

    `past_key_values.*` may be absent for a first prompt; with `cache=False` there is none, and no `present.*` either.
    `position_ids` may be absent for encoders. The patches of the scope "run" are in place meanwhile.
    """
    with patched(loaded.model, "run"):
        return run_tower(loaded.model, feeds, taps) if loaded.task == "tower" else _run_text(loaded, feeds, taps, cache)


def _run_text(loaded: LoadedModel, feeds: Mapping[str, np.ndarray], taps: bool, cache: bool) -> dict[str, np.ndarray]:
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in feeds.items()}
    past = {name.removeprefix(PAST_PREFIX): tensors.pop(name) for name in list(tensors) if name.startswith(PAST_PREFIX)}
    rotated: dict[str, torch.Tensor] = {}
    sequence = tensors["input_ids"].shape[1]
    with torch.no_grad(), tapping(loaded, rotated, sequence) if taps else nullcontext():
        result, presents = call(loaded, tensors, _to_continue(loaded, past), cache=cache)
    name = "logits" if _has_logits(loaded) else "last_hidden_state"
    outputs = {name: result, **rotated, **{f"{PRESENT_PREFIX}{part}": tensor for part, tensor in presents.items()}}
    return {name: _numpy(tensor) for name, tensor in outputs.items()}


class Exact:
    """`run_reference` in a wider type, on the weights as they are: see `rope_deploy.models.reference.wider_type`."""

    def __init__(self, loaded: LoadedModel):
        self._loaded, self._wide = loaded, Widened(loaded.model)

    def __call__(
        self, feeds: Mapping[str, np.ndarray], taps: bool = False, *, cache: bool = True
    ) -> dict[str, np.ndarray]:
        with self._wide.in_place():
            wide = {name: _single(value) for name, value in feeds.items()}
            return run_reference(self._loaded, wide, taps, cache=cache)


def _to_continue(loaded: LoadedModel, past: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`past` in the model's dtype; {} for a first prompt, whose past has no rows and whose states are zero."""
    growing = [(tensor, GROWING.get(name.split(".")[1])) for name, tensor in past.items()]
    if any(axis is not None and not tensor.shape[axis] for tensor, axis in growing):
        return {}
    dtype = next(loaded.model.parameters()).dtype
    # The states of a recurrence keep the type they came in: models hold them in float32.
    return {name: tensor if "recurrent" in name else tensor.to(dtype) for name, tensor in past.items()}


def call(
    loaded: LoadedModel,
    tensors: Mapping[str, torch.Tensor],
    past: Mapping[str, torch.Tensor],
    *,
    cache: bool = True,
    traced: bool = False,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The model's result and its cache by name (see `rope_deploy.models.kv_cache`).

    No cache for encoders, plain modules and with `cache=False`. `traced` as in `new_cache`.
    """
    if loaded.task != "decoder" or not cache:
        output = loaded.model(**tensors, **({"use_cache": False} if loaded.task == "decoder" else {}))
        return first_tensor(output), {}
    kept = new_cache(loaded.model, past, traced=traced)
    output = loaded.model(**tensors, past_key_values=kept, use_cache=True)
    return output.logits, flat(kept)


def first_tensor(output) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output
    return output[0] if isinstance(output, (tuple, list)) else next(iter(output.values()))


def _has_logits(loaded: LoadedModel) -> bool:
    if not isinstance(loaded.model, PreTrainedModel):
        return True
    return loaded.model.get_output_embeddings() is not None or "For" in type(loaded.model).__name__


def result_name(loaded: LoadedModel) -> str:
    """`logits`, or `last_hidden_state` for a bare encoder."""
    return "logits" if _has_logits(loaded) else "last_hidden_state"


def run_perturbed(
    loaded: LoadedModel, feeds: Mapping[str, np.ndarray], seed: int, *, cache: bool = True
) -> dict[str, np.ndarray]:
    """`run_reference` with taps and with its roundings perturbed by `seed`."""
    with perturbed(loaded.model, seed):
        return run_reference(loaded, feeds, taps=True, cache=cache)


def _single(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32) if value.dtype == np.float16 else value


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor).numpy()
