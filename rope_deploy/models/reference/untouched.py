"""A model as transformers runs it: none of our attention, caches or patches, its own masks, and the positions
that generate states after a past.

Whatever we replace in a model stands on both sides of a comparison, in the graph and in the reference, and a mistake in
it would not show. So the modules are copied before anything is replaced in them; the weights are the same tensors.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from rope_deploy.models.example_inputs import handed_on, takes
from rope_deploy.models.patches.stateless_rotary import unchanged
from rope_deploy.models.reference.shaken_roundings import shaken as shaking
from rope_deploy.models.reference.wider_type import Widened


@dataclass(frozen=True)
class Piece:
    """Tokens of one call, input_ids [B, S]; `mask` [B, S] where some of them are padding."""

    input_ids: np.ndarray
    mask: np.ndarray | None = None


def untouched(model: torch.nn.Module) -> torch.nn.Module | None:
    """A copy of the modules of `model`, which shares its weights; None for one that cannot be copied."""
    try:
        return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})
    except Exception:  # modules of a user's own may hold anything
        return None


def run_untouched(
    model: torch.nn.Module, pieces: Sequence[Piece], *, wide: Widened | None = None, shaken: int | None = None
) -> np.ndarray:
    """What `model`, made by `untouched`, gives for the last of `pieces`, which it is fed one after another: logits or
    the last hidden state, [B, S, …], in float32, or in float64 where that is what `wide` makes of it.

    It goes on from the cache that it made itself, and is told what generate tells it: tokens, padding and, after a
    past, where they stand. A model in a half type computes in float32 with `wide`, and with its roundings fallen
    otherwise with the seed `shaken`.
    """
    width = nullcontext() if wide is None else wide.in_place()
    chance = nullcontext() if shaken is None else shaking(model, shaken)
    with torch.no_grad(), unchanged(model), width, chance:
        result = _in_turn(model, pieces, None)
        if result is None:  # its code wants to be given a cache
            result = _in_turn(model, pieces, DynamicCache(config=getattr(model, "config", None)))
    return result


def _in_turn(model: torch.nn.Module, pieces: Sequence[Piece], past: Any) -> np.ndarray | None:
    """The result of the last of `pieces`, beginning with the cache `past`; None if it is None and none was made."""
    given, result, seen = past is not None, None, 0
    for piece in pieces:
        if seen and past is None and not given:
            return None
        result, past = _call(model, piece, past, cached=len(pieces) > 1, seen=seen)
        seen += piece.input_ids.shape[1]
    return result


def _call(model: torch.nn.Module, piece: Piece, past: Any, *, cached: bool, seen: int) -> tuple[np.ndarray, Any]:
    known = {*takes(model), *handed_on(model)}
    given: dict[str, Any] = {"input_ids": torch.from_numpy(np.ascontiguousarray(piece.input_ids)).long()}
    if piece.mask is not None and "attention_mask" in known:
        given["attention_mask"] = torch.from_numpy(np.ascontiguousarray(piece.mask)).long()
    if cached and "use_cache" in known:
        given["use_cache"] = True
    if past is not None:
        given["past_key_values"] = past
        # As generate does: left to itself Bamba's decoder (transformers 5.23) puts every later token at position 0.
        if seen and "position_ids" in known:
            rows, tokens = piece.input_ids.shape
            given["position_ids"] = torch.arange(seen, seen + tokens).repeat(rows, 1)
    given |= {name: value for name, value in _demanded(model, piece).items() if name not in given}
    output = model(**given)
    result = getattr(output, "logits", None)
    if result is None:
        result = output if isinstance(output, torch.Tensor) else next(iter(_values(output)))
    result = result.detach()
    result = result if result.dtype == torch.float64 else result.float()
    return result.numpy(), getattr(output, "past_key_values", None)


def _values(output: Any) -> Sequence[torch.Tensor]:
    return output if isinstance(output, (tuple, list)) else list(output.values())


def _demanded(model: torch.nn.Module, piece: Piece) -> dict[str, torch.Tensor]:
    """What a module of a user's own cannot be called without."""
    rows, tokens = piece.input_ids.shape
    values = {
        "attention_mask": torch.ones(rows, tokens, dtype=torch.long),
        "position_ids": torch.arange(tokens).repeat(rows, 1),
    }
    parameters = inspect.signature(model.forward).parameters
    needed = {name for name, one in parameters.items() if one.default is inspect.Parameter.empty}
    return {name: value for name, value in values.items() if name in needed}
