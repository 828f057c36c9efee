"""The PyTorch model behind the same flat names as the exported graph: the reference for every comparison.

Inputs and outputs are those of the artifact (see `rope_deploy.artifact`); taps add "rotated.{layer}.q" [B, N, S, H]
and "rotated.{layer}.k" [B, Nkv, S, H], the tensors that enter the attention, or what they were made of if a norm or a
factor comes between rotation and attention; and "unrotated.{layer}.{q|k}", the same before the rotation, where the
model's own rotary function can be watched.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from transformers import PreTrainedModel

from rope_deploy.artifact import PAST_PREFIX, PRESENT_PREFIX
from rope_deploy.models.attention import Listener, listening
from rope_deploy.models.caches import flat, new_cache
from rope_deploy.models.load import LoadedModel
from rope_deploy.models.rotaries import watching
from rope_deploy.models.towers import run_tower


def run_reference(
    loaded: LoadedModel, feeds: Mapping[str, np.ndarray], taps: bool = False, *, cache: bool = True
) -> dict[str, np.ndarray]:
    """Run the model once on named numpy inputs; half-precision outputs come back as float32.

    `past_key_values.*` may be absent for a first prompt; with `cache=False` there is none, and no `present.*` either.
    `position_ids` may be absent for encoders.
    """
    if loaded.task == "tower":
        return run_tower(loaded, feeds, taps)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in feeds.items()}
    past = {name.removeprefix(PAST_PREFIX): tensors.pop(name) for name in list(tensors) if name.startswith(PAST_PREFIX)}
    rotated: dict[str, torch.Tensor] = {}
    sequence = tensors["input_ids"].shape[1]
    with torch.no_grad(), _tapping(loaded, rotated, sequence) if taps else nullcontext():
        result, presents = call(loaded, tensors, _to_continue(loaded, past), cache=cache)
    name = "logits" if _has_logits(loaded) else "last_hidden_state"
    outputs = {name: result, **rotated, **{f"{PRESENT_PREFIX}{part}": tensor for part, tensor in presents.items()}}
    return {name: _numpy(tensor) for name, tensor in outputs.items()}


def _to_continue(loaded: LoadedModel, past: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`past` in the model's dtype; {} for a first prompt, whose past has no rows and whose states are zero."""
    if any(not tensor.numel() for tensor in past.values()):
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
    """The model's result and its cache by name (see `rope_deploy.models.caches`).

    No cache for encoders, plain modules and with `cache=False`. `traced` as in `new_cache`.
    """
    if loaded.task != "decoder" or not cache:
        output = loaded.model(**tensors, **({"use_cache": False} if loaded.task == "decoder" else {}))
        return first_tensor(output), {}
    kept = new_cache(loaded.model, past, traced=traced)
    output = loaded.model(**tensors, past_key_values=kept, use_cache=True)
    return output.logits, flat(output.past_key_values)


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


@contextmanager
def _tapping(loaded: LoadedModel, rotated: dict[str, torch.Tensor], sequence: int) -> Iterator[None]:
    """Record query and the new rows of key at every attention, by layer in order of execution; before and after."""
    counted = iter(range(sys.maxsize))
    with watching(loaded.model) as watched:

        def keep(module, query, key):
            layer = getattr(module, "layer_idx", None)
            layer = next(counted) if layer is None else layer
            for number, (role, tensor) in enumerate((("q", query), ("k", key[:, :, -sequence:]))):
                before = watched.before(tensor)
                if before is None and (both := watched.reworked(number, tensor)) is not None:
                    before, tensor = both
                rotated[f"rotated.{layer}.{role}"] = tensor.detach().clone()
                if before is not None:
                    rotated[f"unrotated.{layer}.{role}"] = before
            watched.next_layer()

        with listening(keep) if loaded.native_attention else _older_attention(loaded, keep):
            yield


@contextmanager
def _older_attention(loaded: LoadedModel, keep: Listener) -> Iterator[None]:
    # Attention modules from before transformers' attention interface compute it in a method of this name.
    older = [m for m in loaded.model.modules() if callable(getattr(m, "_attn", None))]
    for module in older:
        original = module._attn

        def tapped(query, key, *args, _module=module, _original=original, **kwargs):
            keep(_module, query, key)
            return _original(query, key, *args, **kwargs)

        module._attn = tapped
    try:
        yield
    finally:
        for module in older:
            del module._attn


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor).numpy()
