"""Mistakes in which position a token is rotated for (RD2xx)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.hypothesis import AngleFunction, CosSin, Mistake, PositionFunction
from rope_deploy.diagnosis.measured_rotation import measured_positions
from rope_deploy.diagnosis.observation import Observation

OFFSETS = (-1, 1, -2, 2)
AFTER_FIRST = " in every step after the first"


def computed_position_mistakes(evidence: Evidence) -> Iterator[Mistake]:
    """Positions that follow from what was fed, by a wrong computation."""

    def using(code: str, explanation: str, positions: PositionFunction) -> Mistake:
        return Mistake(code, explanation, replace(evidence.stated, positions_used=positions))

    for offset in OFFSETS:
        yield using("RD201", _offset_text(offset), shifted(offset))
    for offset in OFFSETS:
        yield using("RD201", _offset_text(offset, AFTER_FIRST), shifted(offset, only_after_past=True))
    yield using("RD202", "Every call after the first counts from 0 again.", _restarted)
    yield using("RD202", "The tokens in the cache are taken off again.", lambda one: one.positions - one.past)
    yield using("RD205", "Padding before a token is added to its position.", _with_padding)
    yield using("RD203", "Tokens stand at their column in attention_mask.", _columns)
    yield using("RD203", "Tokens count up from 0 in every call.", _counted)
    yield using("RD203", "Real tokens are counted in attention_mask.", _real_tokens)
    yield using("RD203", "Every token of a row stands where its first one does.", _first_of_row)
    yield using("RD204", "Every row of the batch has the positions of the first.", lambda one: _row(one, 0))
    yield using("RD204", "Every row of the batch has the positions of the last.", lambda one: _row(one, -1))
    yield using("RD204", "Each row has the positions of the next.", lambda one: np.roll(one.positions, -1, axis=0))
    yield using("RD204", "Each row has the positions of the one before.", lambda one: np.roll(one.positions, 1, 0))
    yield using("RD204", "The rows come in reverse order.", lambda one: one.positions[::-1])
    yield using("RD204", "Only position_ids[0, 0] is read, and counted up from.", _from_first)


def measured_position_mistakes(evidence: Evidence) -> Iterator[Mistake]:
    """What the positions measured of wrong tokens suggest: an offset, a period, a last row."""
    stated = evidence.stated
    measured = [
        measured_positions(multipliers, stated.angle_function, stated.rows, length)
        for multipliers, length in evidence.wrong_multipliers
    ]
    fed = np.concatenate([one.fed for one in measured]) if measured else np.zeros(0, np.int64)
    used = np.concatenate([one.used for one in measured]) if measured else fed
    if not len(fed):
        return
    gaps, counts = np.unique(used - fed, return_counts=True)
    for offset in gaps[np.argsort(-counts)][:4].tolist():
        if offset:
            yield Mistake("RD201", _offset_text(offset), replace(stated, positions_used=shifted(offset)))
            after = replace(stated, positions_used=shifted(offset, only_after_past=True))
            yield Mistake("RD201", _offset_text(offset, AFTER_FIRST), after)
    last = int(used.max())
    if (used <= fed).all():
        stuck = f"Positions beyond {last} are taken for {last}, the last row of a table that is too short."
        clamped = replace(stated, positions_used=lambda one: np.minimum(one.positions_by_axis, last))
        yield Mistake("RD207", stuck, clamped)
        period = int(np.gcd.reduce(fed - used))
        for size in _divisors(period, last):
            wrapped = f"Position {size} is taken for 0: positions are counted modulo {size}."
            yield Mistake("RD206", wrapped, replace(stated, positions_used=modulo(size)))


def short_table_mistakes(evidence: Evidence) -> Iterator[Mistake]:
    """A table that ends: from some row on it holds NaN, zeros, or no rotation."""
    stated, wrong = evidence.stated, evidence.wrong

    def in_error(one: Observation) -> np.ndarray:
        return ~(one.errors(stated.expected(one)) <= one.budget)

    bad = np.concatenate([one.positions[one.real & in_error(one)] for one in wrong] or [[]])
    if not len(bad):
        return
    first = int(bad.min())
    kinds = {"no number": np.nan, "nothing": 0.0, "no rotation": 1.0}
    for kind, value in kinds.items():
        explanation = f"From position {first} on the table gives {kind}."
        yield Mistake("RD207", explanation, replace(stated, angle_function=ending(stated.angle_function, first, value)))


def ending(angles: AngleFunction, first: int, cosine: float) -> AngleFunction:
    """`angles` whose cosine is `cosine` from position `first` on, and whose sine is 0 there (or NaN with it)."""
    sine = cosine if np.isnan(cosine) else 0.0

    def ended(positions: np.ndarray, length: int) -> CosSin:
        cos, sin = angles(positions, length)
        beyond = (positions if positions.ndim == 2 else positions.max(axis=0))[..., None] >= first
        return np.where(beyond, cosine, cos), np.where(beyond, sine, sin)

    return ended


def _offset_text(offset: int, when: str = "") -> str:
    return f"Positions are {abs(offset)} too {'large' if offset > 0 else 'small'}{when}."


def shifted(offset: int, *, only_after_past: bool = False) -> PositionFunction:
    return lambda one: one.positions_by_axis + (offset if one.past or not only_after_past else 0)


def modulo(size: int) -> PositionFunction:
    return lambda one: one.positions_by_axis % size


def _divisors(number: int, above: int) -> list[int]:
    """The eight largest divisors of `number` that are larger than `above`: they wrap no more often than they must."""
    if number <= 0:
        return []
    small = [n for n in range(1, int(number**0.5) + 1) if number % n == 0]
    return sorted({n for d in small for n in (d, number // d) if n > above}, reverse=True)[:8]


def _columns(one: Observation) -> np.ndarray:
    return np.broadcast_to(one.past + np.arange(one.positions.shape[1]), one.positions.shape)


def _counted(one: Observation) -> np.ndarray:
    return np.broadcast_to(np.arange(one.positions.shape[1]), one.positions.shape)


def _restarted(one: Observation) -> np.ndarray:
    return _counted(one) if one.past else one.positions


def _with_padding(one: Observation) -> np.ndarray:
    return one.positions + (one.mask == 0).cumsum(axis=1)[:, one.past :]


def _real_tokens(one: Observation) -> np.ndarray:
    return np.clip(one.mask.cumsum(axis=1) - 1, 0, None)[:, one.past :]


def _first_of_row(one: Observation) -> np.ndarray:
    return np.broadcast_to(one.positions[:, :1], one.positions.shape)


def _row(one: Observation, number: int) -> np.ndarray:
    return np.broadcast_to(one.positions[number], one.positions.shape)


def _from_first(one: Observation) -> np.ndarray:
    return np.broadcast_to(one.positions[0, 0] + np.arange(one.positions.shape[1]), one.positions.shape)
