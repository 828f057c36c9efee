"""Make small calls of a decoder or an encoder from nothing but the inputs that its file declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rope_deploy.graph.reading.declared_inputs import Input

PROMPT, PAST, TOKENS = 3, 4, 8  # tokens of a prompt, tokens before a later call, ids to choose from
CACHES = ("past", "cache")


@dataclass(frozen=True)
class TrialCall:
    """The inputs of one call, and a description of it for messages."""

    description: str
    feeds: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Sizes:
    """The sizes of one call. `total`: the tokens that its mask covers."""

    batch: int
    past: int
    sequence: int

    @property
    def total(self) -> int:
        return self.past + self.sequence


def trial_calls(inputs: Sequence[Input], rows: int, *, batch: int, far: bool) -> list[TrialCall]:
    """Make a prompt and, for a file with a cache, calls after a past. `rows`: how many positions the file serves.

    With `far`, positions of the last call are spread over all of them. Values are always the same.
    """
    tokens = min(PROMPT, rows)
    past = min(PAST, rows - tokens) if any(map(_is_cache, inputs)) else 0
    whole = Sizes(batch, past, tokens)
    made = [("a prompt", Sizes(batch, 0, tokens), None)]
    if past:
        made += [("a step after a past", Sizes(batch, past, 1), None), ("a prompt after a past", whole, None)]
    if far:
        spread = np.linspace(0, rows - 1, tokens).astype(np.int64)
        made.append(("positions up to the last", whole, spread))
    return [TrialCall(text, feeds(inputs, sizes, positions)) for text, sizes, positions in made]


def feeds(inputs: Sequence[Input], sizes: Sizes, positions: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Make an array for each input; `positions` [sequence] replace those that count on from the past."""
    if positions is None:
        positions = np.arange(sizes.past, sizes.total)
    # Inputs whose own names fix their axes give the sizes of the axis names; those then hold for all inputs.
    named: dict[str, int] = {}
    for one in inputs:
        for axis, size in _known_axes(one, sizes).items():
            if isinstance(one.shape[axis], str):
                named.setdefault(one.shape[axis], size)
    random = np.random.default_rng(0)
    return {one.name: _values(one, _shape(one, sizes, named), sizes, positions, random) for one in inputs}


def _is_cache(one: Input) -> bool:
    return any(part in one.name.lower() for part in CACHES) and len(one.shape) >= 3


def _known_axes(one: Input, sizes: Sizes) -> dict[int, int]:
    """The sizes of those axes of an input that its own name fixes."""
    name, rank = one.name.lower(), len(one.shape)
    if "mask" in name:
        masks = {2: {0: sizes.batch, 1: sizes.total}, 4: {0: sizes.batch, 2: sizes.sequence, 3: sizes.total}}
        return masks.get(rank, {})
    if _is_cache(one):
        return {0: sizes.batch, 2: sizes.past} if rank == 4 else {}
    if "embeds" in name and rank == 3:
        return {0: sizes.batch, 1: sizes.sequence}
    if "position" in name or "ids" in name:
        each = {1: {0: sizes.sequence}, 2: {0: sizes.batch, 1: sizes.sequence}}
        return each.get(rank, {1: sizes.batch, 2: sizes.sequence} if rank == 3 else {})
    return {}


def _shape(one: Input, sizes: Sizes, named: Mapping[str, int]) -> tuple[int, ...]:
    known = _known_axes(one, sizes)
    guessed = {axis: _by_name(dim, axis, sizes) for axis, dim in enumerate(one.shape)}
    return tuple(
        dim if isinstance(dim, int) else named.get(dim, known.get(axis, guessed[axis]))
        for axis, dim in enumerate(one.shape)
    )


def _by_name(name: int | str | None, axis: int, sizes: Sizes) -> int:
    """The size of an axis by what its name contains; else by its index."""
    text = str(name or "").lower()
    if "batch" in text:
        return sizes.batch
    if "total" in text or "+" in text:
        return sizes.total
    if "past" in text:
        return sizes.past
    if any(part in text for part in ("seq", "len", "token")):
        return sizes.sequence
    return sizes.batch if axis == 0 else sizes.sequence


def _values(
    one: Input, shape: tuple[int, ...], sizes: Sizes, positions: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    name, dtype = one.name.lower(), np.dtype(one.dtype)
    if "mask" in name:  # a mask of numbers with a row for each token is added to the scores
        hides_by_adding = dtype.kind == "f" and len(shape) > 2
        return np.zeros(shape, dtype) if hides_by_adding else np.ones(shape, dtype)
    if dtype.kind == "b":
        return np.full(shape, sizes.past > 0 if any(part in name for part in CACHES) else True)
    if dtype.kind == "f":
        return random.normal(0, 0.5, shape).astype(dtype)
    if "position" in name and shape and shape[-1] == len(positions):
        return np.broadcast_to(positions, shape).astype(dtype)
    if "type" in name or _is_cache(one):
        return np.zeros(shape, dtype)
    if "ids" in name or "tokens" in name:
        return random.integers(0, min(TOKENS, one.below or TOKENS), shape).astype(dtype)
    return np.full(shape, _count(name, sizes), dtype)


def _count(name: str, sizes: Sizes) -> int:
    """A count of tokens: of all, or of the past; ONNX Runtime's seqlens_k is one less than all."""
    if "seqlens_k" in name:
        return sizes.total - 1
    if "past" in name:
        return sizes.past
    if "total" in name:
        return sizes.total
    return 1 if "keep" in name else 0
