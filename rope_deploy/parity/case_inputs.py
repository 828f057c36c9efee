"""The input arrays of each call of a case: tokens, positions and attention mask.

Shapes: B rows, S tokens in a call, T columns of the mask so far (past and padding included).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.graph.analysis.vocabulary import FALLBACK_VOCABULARY
from rope_deploy.parity.cases import REPEATS, STRIDE, Case
from rope_deploy.runtimes import Arrays

DRAWN = 1024  # token ids drawn for each row at once, so that a longer case begins as a shorter one does
SPREAD = 3  # tokens without order lie within this many times their number of positions


@dataclass(frozen=True)
class Call:
    """input_ids [B, S], position_ids [B, S], attention_mask [B, T]; `real` [B, S] marks the tokens without padding.

    Where the graph's positions have several axes (M-RoPE), `axes` [A, B, S] holds them and position_ids is the first.
    """

    input_ids: np.ndarray
    position_ids: np.ndarray
    attention_mask: np.ndarray
    axes: np.ndarray | None = None

    @property
    def positions_by_axis(self) -> np.ndarray:
        """The position_ids that the graph is fed: [B, S], or [A, B, S] if positions have several axes."""
        return self.position_ids if self.axes is None else self.axes

    @property
    def tokens(self) -> int:
        return self.input_ids.shape[1]

    @property
    def real(self) -> np.ndarray:
        return self.attention_mask[:, -self.tokens :] == 1

    def feeds(self, manifest: Manifest, past: Arrays) -> Arrays:
        """The graph's inputs: these arrays in the manifest's types, and `past`."""
        types = {info.name: info.dtype for info in manifest.inputs}
        arrays = {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "position_ids": self.positions_by_axis,
        }
        return {name: value.astype(types[name]) for name, value in arrays.items() if name in types} | past


def calls_for(case: Case, manifest: Manifest, seed: int = 0, text: Sequence[int] = ()) -> Iterator[Call]:
    """The prompt and each further call of `case`; the same arrays every time for one id and seed.

    Each row is the first token of `text` (which may mark the beginning) and a piece of the rest; random tokens without
    `text`. Rows depend on the seed and their number alone, so that cases that begin alike share calls of a reference
    that remembers its answers.
    """
    rng = np.random.default_rng([seed, crc32(case.id.encode())])
    rows, prompt = len(case.lengths), max(case.lengths)
    sides = {"left": ("left",), "mixed": ("left", "right")}.get(case.padding, ("right",))
    real = np.array([_padding_mask(length, prompt, sides[row % len(sides)]) for row, length in enumerate(case.lengths)])
    mask = np.concatenate([real, np.ones((rows, sum(case.later)), real.dtype)], axis=1)
    # Each row's n-th real token has the n-th token id and the n-th position; padding has the row's first position.
    count = np.clip(mask.cumsum(axis=1) - 1, 0, None)
    token_ids = _token_ids(rows, mask.shape[1], manifest, text, seed)
    row_positions = _token_positions(case, rows, mask.shape[1], prompt, manifest.max_position, rng)
    ids = np.take_along_axis(token_ids, count, axis=1)
    positions = np.where(mask == 1, np.take_along_axis(row_positions, count, axis=1), row_positions[:, :1])
    if all(info.name != "position_ids" for info in manifest.inputs):  # the graph counts columns, padding included
        positions = np.broadcast_to(np.arange(mask.shape[1]), mask.shape)
    axes = _along_axes(case, positions, manifest)
    end = 0
    for tokens in (prompt, *case.later):
        begin, end = end, end + tokens
        by_axis = None if axes is None else axes[:, :, begin:end]
        yield Call(ids[:, begin:end], positions[:, begin:end], mask[:, :end], by_axis)


def _along_axes(case: Case, positions: np.ndarray, manifest: Manifest) -> np.ndarray | None:
    """[A, rows, columns] where positions have A axes: equal along all axes for tokens that count, like text; in another
    order along each axis for others, like the patches of an image. None where positions have one axis."""
    count = manifest.position_axes
    if count == 1:
        return None
    step = 0 if case.positions == "count" else 1
    return np.stack([np.roll(positions, axis * step, axis=1) for axis in range(count)])


def _padding_mask(length: int, width: int, padding: str) -> np.ndarray:
    filler = width - length
    return np.pad(np.ones(length, np.int64), (filler, 0) if padding == "left" else (0, filler))


def _token_ids(rows: int, tokens: int, manifest: Manifest, text: Sequence[int], seed: int) -> np.ndarray:
    """[rows, tokens]: the id of the n-th token of each row."""
    drawn = [np.random.default_rng([seed, row]) for row in range(rows)]
    if not len(text):
        vocabulary = manifest.vocab_size or FALLBACK_VOCABULARY
        return np.stack([rng.integers(0, vocabulary, max(tokens, DRAWN))[:tokens] for rng in drawn])
    index = np.stack([rng.integers(0, len(text)) + np.arange(tokens) for rng in drawn])
    index[:, 0] = 0
    return np.asarray(text, np.int64)[index % len(text)]


def _token_positions(
    case: Case, rows: int, tokens: int, prompt: int, table: int, rng: np.random.Generator
) -> np.ndarray:
    """[rows, tokens]: the position of the n-th real token of each row."""
    step = np.arange(tokens)
    match case.positions:
        case "count":
            one = case.start + step
        case "stride":
            one = case.start + STRIDE * step
        case "repeat":
            one = case.start + step // REPEATS
        case "out-of-range":
            one = np.append(np.zeros(tokens - 1, np.int64), case.start)
        case "by-row":
            return np.linspace(0, table - tokens, rows).round().astype(np.int64)[:, None] + step
        case "shuffled":
            starts = rng.integers(0, max(1, table - SPREAD * tokens + 1), (rows, 1))
            return starts + _shuffled(rows, tokens, table, rng)
        case "prompt-counts":
            later = _shuffled(rows, tokens, table, rng)
            return np.where(step < prompt, step, later)
    return np.broadcast_to(one, (rows, tokens)).copy()


def _shuffled(rows: int, tokens: int, table: int, rng: np.random.Generator) -> np.ndarray:
    """[rows, tokens] of different small positions without order."""
    span = min(table, SPREAD * tokens)
    return np.stack([rng.permutation(span)[:tokens] for _ in range(rows)])
