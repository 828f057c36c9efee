"""Run a model as transformers runs it: its own attention, masks and caches, and none of our patches.

Whatever we replace in a model stands on both sides of every other comparison, in the graph and in the reference, and a
mistake in it would not show. So a copy of the modules runs here, in which nothing is ever replaced
(`LoadedModel.untouched`); the weights are the same tensors. Every run makes sure that no patch is in place.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from rope_deploy.errors import BUG, InternalFault
from rope_deploy.models.example_inputs import handed_on, takes
from rope_deploy.models.patches.patched import patches_in
from rope_deploy.models.reference.perturbed_roundings import perturbed
from rope_deploy.models.reference.run_tower import run_tower
from rope_deploy.models.reference.wider_type import Widened
from rope_deploy.models.restored_attributes import attributes_restored


@dataclass(frozen=True)
class Piece:
    """Tokens of one call, input_ids [B, S].

    `mask` [B, T] where some of them, or of those before, are padding; `position_ids` [B, S] or [axes, B, S] where the
    padding is on the left, so that tokens do not count from the first column.
    """

    input_ids: np.ndarray
    mask: np.ndarray | None = None
    position_ids: np.ndarray | None = None


def run_untouched(
    model: torch.nn.Module, pieces: Sequence[Piece], *, wide: Widened | None = None, perturbed_by: int | None = None
) -> np.ndarray:
    """What `model`, a `LoadedModel.untouched`, gives for the last of `pieces`, fed one after another: logits or the
    last hidden state, [B, S, …], in float32, or in float64 where `wide` computes in it.

    It continues from the cache that it made itself, and is given what transformers' generate gives it: tokens, padding
    and, after a past, positions. A model in a half type computes in float32 with `wide`. `perturbed_by` is a seed that
    its roundings are perturbed with. Raises InternalFault if a patch is in place in it.
    """
    _require_untouched(model)
    width = nullcontext() if wide is None else wide.in_place()
    roundings = nullcontext() if perturbed_by is None else perturbed(model, perturbed_by)
    with torch.no_grad(), attributes_restored(model), width, roundings:
        result = _run_pieces(model, pieces, None)
        if result is None:  # its code wants to be given a cache
            result = _run_pieces(model, pieces, DynamicCache(config=getattr(model, "config", None)))
    return result


def run_untouched_tower(model: torch.nn.Module, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `model`, the `LoadedModel.untouched` of a tower, returns for named arrays, by name.

    Raises InternalFault if a patch is in place in it.
    """
    _require_untouched(model)
    with attributes_restored(model):
        return run_tower(model, feeds)


def _require_untouched(model: torch.nn.Module) -> None:
    if ours := patches_in(model):
        raise InternalFault(f"Patches are in place in a model that none may touch: {', '.join(ours)}.", todo=BUG)


def _run_pieces(model: torch.nn.Module, pieces: Sequence[Piece], past: Any) -> np.ndarray | None:
    """The result of the last of `pieces`, beginning with the cache `past`; None if it is None and none was made."""
    given, result, before = past is not None, None, 0
    for piece in pieces:
        if before and past is None and not given:
            return None
        result, past = _call(model, piece, past, cached=len(pieces) > 1, before=before)
        before += piece.input_ids.shape[1]
    return result


def _call(model: torch.nn.Module, piece: Piece, past: Any, *, cached: bool, before: int) -> tuple[np.ndarray, Any]:
    known = {*takes(model), *handed_on(model)}
    given: dict[str, Any] = {"input_ids": torch.from_numpy(np.ascontiguousarray(piece.input_ids)).long()}
    if piece.mask is not None and "attention_mask" in known:
        given["attention_mask"] = torch.from_numpy(np.ascontiguousarray(piece.mask)).long()
    if cached and "use_cache" in known:
        given["use_cache"] = True
    if piece.position_ids is not None and "position_ids" in known:
        given["position_ids"] = torch.from_numpy(np.ascontiguousarray(piece.position_ids)).long()
    if past is not None:
        given["past_key_values"] = past
        # As generate does: left to itself Bamba's decoder (transformers 5.23) puts every later token at position 0.
        if before and "position_ids" in known and piece.position_ids is None:
            rows, tokens = piece.input_ids.shape
            given["position_ids"] = torch.arange(before, before + tokens).repeat(rows, 1)
    given |= {name: value for name, value in _demanded(model, piece, before).items() if name not in given}
    output = model(**given)
    result = getattr(output, "logits", None)
    if result is None:
        result = output if isinstance(output, torch.Tensor) else next(iter(_values(output)))
    result = result.detach()
    result = result if result.dtype == torch.float64 else result.float()
    return result.numpy(), getattr(output, "past_key_values", None)


def _values(output: Any) -> Sequence[torch.Tensor]:
    return output if isinstance(output, (tuple, list)) else list(output.values())


def _demanded(model: torch.nn.Module, piece: Piece, before: int) -> dict[str, torch.Tensor]:
    """What a module of a user's own cannot be called without, after `before` tokens."""
    rows, tokens = piece.input_ids.shape
    values = {
        "attention_mask": torch.ones(rows, before + tokens, dtype=torch.long),
        "position_ids": torch.arange(before, before + tokens).repeat(rows, 1),
    }
    parameters = inspect.signature(model.forward).parameters
    needed = {name for name, one in parameters.items() if one.default is inspect.Parameter.empty}
    return {name: value for name, value in values.items() if name in needed}
