"""Observations as a check would make them, by numpy: of a site that rotates by a given hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rope_deploy.artifact import Site
from rope_deploy.diagnosis import Observation
from rope_deploy.diagnosis.hypothesis import Hypothesis, hypothesis_of_rule
from rope_deploy.rope import RopeSpec

UNIT = 2.0**-24
PROMPT = 9


def observations_of(
    spec: RopeSpec, did: Hypothesis, rows: int, *, layer: int = 0, role: str = "k", seed: int = 0, heads: int = 3
):
    """Observations of every kind of call, of a site that does `did` where it should follow `spec`."""
    rng = np.random.default_rng(seed)
    site = Site(layer, role, "rope_0", heads, spec.head_dim, "BNSH", "x", "y")
    return [_observe(spec, did, rows, site, rng, *call) for call in calls(rows, spec.original_max_position)]


def calls(rows: int, threshold: int | None) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(case, positions [B, S], mask [B, T]) of a prompt or a later call."""
    count = np.arange(PROMPT)
    ones = np.ones((1, PROMPT), np.int64)
    ragged = np.array([[1] * 9, [0] * 4 + [1] * 5, [0] * 6 + [1] * 3])
    placed = np.clip(ragged.cumsum(1) - 1, 0, None)
    rng = np.random.default_rng(7)
    shuffled = np.stack([rng.permutation(27)[:PROMPT] + start for start in (0, rows // 3, rows - 28)])
    three = np.ones((3, PROMPT), np.int64)
    found = [
        ("prefill", count[None], ones),
        ("prefill-left-padded", placed, ragged),
        ("prefill-right-padded", np.where(ragged[:, ::-1] == 1, count, 0), ragged[:, ::-1]),
        ("offset-half", count[None] + rows // 2, ones),
        ("offset-end", count[None] + rows - PROMPT, ones),
        ("strided", 3 * count[None], ones),
        ("offset-by-row", np.linspace(0, rows - PROMPT, 3).astype(int)[:, None] + count, three),
        ("shuffled", shuffled, three),
        ("decode", np.array([[PROMPT]]), np.ones((1, PROMPT + 1), np.int64)),
        ("decode-batch", np.array([[11], [40], [rows - 2]]), np.ones((3, PROMPT + 1), np.int64)),
        ("decode-left-padded", np.array([[9], [5], [3]]), np.pad(ragged, ((0, 0), (0, 1)), constant_values=1)),
        ("chunk", np.arange(9, 13)[None], np.ones((1, 13), np.int64)),
    ]
    if threshold is not None and threshold + PROMPT <= rows:
        found += [
            ("below", count[None] + threshold - PROMPT, ones),
            ("beyond", count[None] + threshold, ones),
            ("across", count[None] + threshold - 4, ones),
        ]
    return found


def _observe(
    spec: RopeSpec, did: Hypothesis, rows: int, site: Site, rng: np.random.Generator, case: str, positions, mask
) -> Observation:
    x = rng.standard_normal((len(positions), site.num_heads, positions.shape[1], spec.head_dim)).astype(np.float32)
    real = mask[:, -positions.shape[1] :] == 1
    axes = None
    if count := len(spec.mrope_section):  # alike for text that counts, else another order along each axis
        rolled = [np.roll(positions, axis, axis=1) for axis in range(count)]
        axes = np.stack([positions] * count if case.startswith(("prefill", "decode", "chunk")) else rolled)
    blank = Observation(case, site, x, None, positions, mask, real, np.ones(real.shape), lambda expected: None, axes)
    y = _rotated(did, blank).astype(np.float32)
    exact = _rotated(hypothesis_of_rule(spec, rows), blank)
    budget = 8 * UNIT * np.abs(exact).max(axis=(1, 3))
    return replace(blank, rotated=y, budget=budget, errors=lambda expected: np.abs(y - expected).max(axis=(1, 3)))


def _rotated(did: Hypothesis, one: Observation) -> np.ndarray:
    """What `did` gives; NaN outside its table, as our graphs have it."""
    positions = did.positions_used(one)
    outside = (positions < 0) | (positions >= did.rows)
    outside = outside.any(axis=0) if positions.ndim == 3 else outside
    return np.where(outside[:, None, :, None], np.nan, did.expected(one))


def codes(records: Sequence) -> list[str]:
    return [record.code for record in records]
