"""Mistakes in where a token stands (RD2xx)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from rope_deploy.diagnosis.hypothesis import Mistake, Place, Rotation, Tables, Turning
from rope_deploy.diagnosis.measure import Placed
from rope_deploy.diagnosis.observation import Observation

OFFSETS = (-1, 1, -2, 2)


def place_mistakes(right: Rotation) -> Iterator[Mistake]:
    """Positions that follow from what was fed, only by the wrong rule."""

    def planted(code: str, explanation: str, place: Place) -> Mistake:
        return Mistake(code, explanation, replace(right, place=place))

    for offset in OFFSETS:
        yield planted("RD201", _off(offset), _shifted(offset))
    for offset in OFFSETS:
        yield planted("RD201", _off(offset, " in every step after the first"), _shifted(offset, only_after_past=True))
    yield planted("RD202", "Every call after the first counts from 0 again.", _restarted)
    yield planted("RD202", "The tokens in the cache are taken off again.", lambda seen: seen.positions - seen.past)
    yield planted("RD205", "Padding before a token is added to its position.", _with_padding)
    yield planted("RD203", "Tokens stand at their column in attention_mask.", _columns)
    yield planted("RD203", "Tokens count up from 0 in every call.", _counted)
    yield planted("RD203", "Real tokens are counted in attention_mask.", _real_tokens)
    yield planted("RD203", "Every token of a row stands where its first one does.", _first_of_row)
    yield planted("RD204", "Every row of the batch has the positions of the first.", lambda seen: _row(seen, 0))
    yield planted("RD204", "Every row of the batch has the positions of the last.", lambda seen: _row(seen, -1))
    yield planted("RD204", "Each row has the positions of the next.", lambda seen: np.roll(seen.positions, -1, axis=0))
    yield planted("RD204", "Each row has the positions of the one before.", lambda seen: np.roll(seen.positions, 1, 0))
    yield planted("RD204", "The rows come in reverse order.", lambda seen: seen.positions[::-1])
    yield planted("RD204", "Only position_ids[0, 0] is read, and counted up from.", _from_first)


def measured_mistakes(right: Rotation, placed: Sequence[Placed]) -> Iterator[Mistake]:
    """Rules that the positions measured in wrong tokens suggest: an offset, a period, a last row."""
    fed = np.concatenate([one.fed for one in placed]) if placed else np.zeros(0, np.int64)
    found = np.concatenate([one.found for one in placed]) if placed else fed
    if not len(fed):
        return
    gaps, counts = np.unique(found - fed, return_counts=True)
    for offset in gaps[np.argsort(-counts)][:4].tolist():
        if offset:
            yield Mistake("RD201", _off(offset), replace(right, place=_shifted(offset)))
            after = _off(offset, " in every step after the first")
            yield Mistake("RD201", after, replace(right, place=_shifted(offset, only_after_past=True)))
    last = int(found.max())
    if (found <= fed).all():
        stuck = f"Positions beyond {last} are taken for {last}, the last row of a table that is too short."
        yield Mistake("RD207", stuck, replace(right, place=lambda seen: np.minimum(seen.places, last)))
        period = int(np.gcd.reduce(fed - found))
        for size in _divisors(period, last):
            wrapped = f"Position {size} is taken for 0: positions are counted modulo {size}."
            yield Mistake("RD206", wrapped, replace(right, place=_modulo(size)))


def short_table_mistakes(right: Rotation, wrong: Sequence[Observation]) -> Iterator[Mistake]:
    """A table that ends: beyond some row there is no number, nothing, or no turn."""
    bad = np.concatenate([seen.positions[seen.real & _off_budget(right, seen)] for seen in wrong] or [[]])
    if not len(bad):
        return
    first = int(bad.min())
    kinds = {"no number": np.nan, "nothing": 0.0, "no turn": 1.0}
    for word, value in kinds.items():
        explanation = f"From position {first} on the table gives {word}."
        yield Mistake("RD207", explanation, replace(right, turning=_ending(right.turning, first, value)))


def _off_budget(right: Rotation, seen: Observation) -> np.ndarray:
    cos, sin = (t[:, None].astype(np.float64) for t in right.turning(seen.places, int(seen.places.max()) + 1))
    errors = seen.errors(right.apply(seen.unrotated.astype(np.float64), cos, sin))
    return ~(errors <= seen.budget)


def _ending(turning: Turning, first: int, cosine: float) -> Turning:
    sine = cosine if np.isnan(cosine) else 0.0

    def ended(places: np.ndarray, length: int) -> Tables:
        cos, sin = turning(places, length)
        beyond = (places if places.ndim == 2 else places.max(axis=0))[..., None] >= first
        return np.where(beyond, cosine, cos), np.where(beyond, sine, sin)

    return ended


def _off(offset: int, when: str = "") -> str:
    return f"Positions are {abs(offset)} too {'large' if offset > 0 else 'small'}{when}."


def _shifted(offset: int, *, only_after_past: bool = False) -> Place:
    return lambda seen: seen.places + (offset if seen.past or not only_after_past else 0)


def _modulo(size: int) -> Place:
    return lambda seen: seen.places % size


def _divisors(number: int, above: int) -> list[int]:
    """Divisors of `number` larger than `above`, the few largest: they wrap no more often than they must."""
    if number <= 0:
        return []
    small = [n for n in range(1, int(number**0.5) + 1) if number % n == 0]
    return sorted({n for d in small for n in (d, number // d) if n > above}, reverse=True)[:8]


def _columns(seen: Observation) -> np.ndarray:
    return np.broadcast_to(seen.past + np.arange(seen.positions.shape[1]), seen.positions.shape)


def _counted(seen: Observation) -> np.ndarray:
    return np.broadcast_to(np.arange(seen.positions.shape[1]), seen.positions.shape)


def _restarted(seen: Observation) -> np.ndarray:
    return _counted(seen) if seen.past else seen.positions


def _with_padding(seen: Observation) -> np.ndarray:
    return seen.positions + (seen.mask == 0).cumsum(axis=1)[:, seen.past :]


def _real_tokens(seen: Observation) -> np.ndarray:
    return np.clip(seen.mask.cumsum(axis=1) - 1, 0, None)[:, seen.past :]


def _first_of_row(seen: Observation) -> np.ndarray:
    return np.broadcast_to(seen.positions[:, :1], seen.positions.shape)


def _row(seen: Observation, number: int) -> np.ndarray:
    return np.broadcast_to(seen.positions[number], seen.positions.shape)


def _from_first(seen: Observation) -> np.ndarray:
    return np.broadcast_to(seen.positions[0, 0] + np.arange(seen.positions.shape[1]), seen.positions.shape)
