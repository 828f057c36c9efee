"""From a case to the arrays of its calls.

Shapes: B rows, S tokens in a call, T columns of the mask so far (past and padding included).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.parity.cases import Case
from rope_deploy.runtimes import Arrays

FALLBACK_VOCABULARY = 100  # token ids every vocabulary has


@dataclass(frozen=True)
class Call:
    """input_ids [B, S], position_ids [B, S], attention_mask [B, T]; `real` [B, S] marks the tokens that count."""

    input_ids: np.ndarray
    position_ids: np.ndarray
    attention_mask: np.ndarray

    @property
    def tokens(self) -> int:
        return self.input_ids.shape[1]

    @property
    def real(self) -> np.ndarray:
        return self.attention_mask[:, -self.tokens :] == 1

    def feeds(self, manifest: Manifest, past: Arrays) -> Arrays:
        """The graph's inputs: these arrays in the manifest's types, and `past`."""
        types = {info.name: info.dtype for info in manifest.inputs}
        own = {name: getattr(self, name) for name in ("input_ids", "attention_mask", "position_ids")}
        return {name: value.astype(types[name]) for name, value in own.items() if name in types} | past


def calls_for(case: Case, manifest: Manifest, seed: int = 0) -> Iterator[Call]:
    """The prompt and each further call of `case`; the same arrays every time for one id and seed."""
    rng = np.random.default_rng([seed, crc32(case.id.encode())])
    rows, prompt = len(case.lengths), max(case.lengths)
    real = np.array([_padded(length, prompt, case.padding) for length in case.lengths])
    mask = np.concatenate([real, np.ones((rows, sum(case.later)), real.dtype)], axis=1)
    ids = rng.integers(0, manifest.vocab_size or FALLBACK_VOCABULARY, mask.shape)
    # Each row's n-th real token stands at its n-th position; padding stands at the row's first.
    placed = _positions(case, rows, mask.shape[1], prompt, manifest.max_position, rng)
    positions = np.take_along_axis(placed, np.clip(mask.cumsum(axis=1) - 1, 0, None), axis=1)
    positions = np.where(mask == 1, positions, placed[:, :1])
    end = 0
    for tokens in (prompt, *case.later):
        begin, end = end, end + tokens
        yield Call(ids[:, begin:end], positions[:, begin:end], mask[:, :end])


def _padded(length: int, width: int, padding: str) -> np.ndarray:
    filler = width - length
    return np.pad(np.ones(length, np.int64), (filler, 0) if padding == "left" else (0, filler))


def _positions(case: Case, rows: int, tokens: int, prompt: int, table: int, rng: np.random.Generator) -> np.ndarray:
    """[rows, tokens]: where the n-th real token of each row stands."""
    counted = case.start + np.arange(tokens)
    match case.placing:
        case "count":
            one = counted
        case "stride":
            one = case.start + 3 * np.arange(tokens)
        case "wide":
            one = np.linspace(0, table - 1, tokens).round().astype(np.int64)
        case "out-of-range":
            one = np.append(np.zeros(tokens - 1, np.int64), case.start)
        case "shuffled" | "prompt-counts":
            random = np.stack([rng.permutation(_sample(rng, table, tokens)) for _ in range(rows)])
            if case.placing == "prompt-counts":
                random[:, :prompt] = counted[:prompt]
            return random
    return np.broadcast_to(one, (rows, tokens)).copy()


def _sample(rng: np.random.Generator, table: int, tokens: int) -> np.ndarray:
    return rng.choice(table, tokens, replace=table < tokens)
