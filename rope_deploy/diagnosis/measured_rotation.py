"""What a rotation did, measured from its input and output: the multiplier of each pair, the position of each token.

Written as a complex number, a pair (a, b) is a + ib, and a rotation multiplies it by r·exp(iφ). The quotient of
output and input, over all heads in the sense of least squares, is that multiplier. P pairs, K tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rope_deploy.diagnosis.hypothesis import AngleFunction
from rope_deploy.diagnosis.observation import Observation

CERTAIN = 0.999  # correlation of a token's multipliers with those of the row it is taken for
TOKENS = 96  # more would only cost time
BEYOND = 64  # rows tried beyond the largest position
RELIABLE = 1e-3  # radians by which a pair must rotate over the largest distance for its frequency to count as measured


@dataclass(frozen=True)
class MeasuredPositions:
    """The positions that tokens were fed, and those they were rotated for: [K] each."""

    fed: np.ndarray
    used: np.ndarray


@dataclass(frozen=True)
class Multipliers:
    """`values`, complex [K, P], of tokens at `positions` [K]."""

    positions: np.ndarray
    values: np.ndarray


def multipliers(observation: Observation, *, interleaved: bool, pairs: int) -> Multipliers:
    """Those of every real token of a call; none where only products were seen, or positions differ by axis."""
    axes = observation.axes
    if observation.rotated is None or (axes is not None and (axes != axes[0]).any()):
        return Multipliers(np.zeros(0, np.int64), np.zeros((0, pairs), np.complex128))
    before, after = (_as_complex(x, interleaved, pairs) for x in (observation.unrotated, observation.rotated))
    with np.errstate(invalid="ignore", divide="ignore"):
        quotient = (before.conj() * after).sum(axis=1) / (np.abs(before) ** 2).sum(axis=1)
    good = observation.real & np.isfinite(quotient).all(axis=-1)
    return Multipliers(observation.positions[good], quotient[good])


def measured_positions(measured: Multipliers, angles: AngleFunction, rows: int, length: int) -> MeasuredPositions:
    """The row of the table of `angles` whose multipliers are most like those of each token, where one is like them."""
    if not len(measured.positions):
        return MeasuredPositions(measured.positions, measured.positions)
    some = np.unique(np.linspace(0, len(measured.positions) - 1, TOKENS).astype(int))
    fed, values = measured.positions[some], measured.values[some]
    tried = np.arange(min(rows, int(fed.max()) + BEYOND))
    cos, sin = angles(tried[None], length)
    table = (cos + 1j * sin)[0].astype(np.complex64)
    likeness = (values.astype(np.complex64) @ table.conj().T).real
    likeness /= np.linalg.norm(values, axis=1)[:, None] * np.linalg.norm(table, axis=1) + 1e-30
    best = likeness.argmax(axis=1)
    sure = np.take_along_axis(likeness, best[:, None], axis=1)[:, 0] > CERTAIN
    return MeasuredPositions(fed[sure], best[sure])


@dataclass(frozen=True)
class Frequencies:
    """Radians per position of each pair, `values` [P], where `known` [P]; measured in sequences of `length` tokens."""

    values: np.ndarray
    known: np.ndarray
    length: int | None = None


def frequencies(calls: Sequence[Multipliers], length: int | None = None) -> Frequencies | None:
    """How far each pair is rotated per position, from all `calls`; None where there is no token to measure.

    Two tokens of a call that stand a distance apart differ in phase by that distance times the frequency, up to
    whole revolutions. Distances are taken from small to large: every step improves the estimate by which the next is
    unwrapped, so that the last digits come from the largest distance. Position 0 has phase 0 by definition, so a
    position is itself a distance.
    """
    distances, phases = zip(*(_phase_differences(call) for call in calls)) if calls else ((), ())
    distance = np.concatenate(distances) if distances else np.zeros(0)
    if not len(distance):
        return None
    phase = np.concatenate(phases)
    order = np.argsort(distance, kind="stable")
    product, square = np.zeros(phase.shape[1]), 0.0
    estimate = phase[order[0]] / distance[order[0]]
    for number in order:
        revolutions = np.round((estimate * distance[number] - phase[number]) / (2 * np.pi))
        product = product + distance[number] * (phase[number] + 2 * np.pi * revolutions)
        square += distance[number] ** 2
        estimate = product / square
    return Frequencies(estimate, np.abs(estimate) * distance.max() > RELIABLE, length)


def _phase_differences(call: Multipliers) -> tuple[np.ndarray, np.ndarray]:
    """Distances [D] and differences of phase [D, P]: between tokens in order of position, and from position 0."""
    order = np.argsort(call.positions, kind="stable")
    positions, values = call.positions[order].astype(np.float64), call.values[order]
    steps = np.diff(positions)
    distances, between = steps[steps > 0], np.angle(values[1:] * values[:-1].conj())[steps > 0]
    own = positions > 0
    return np.concatenate([distances, positions[own]]), np.concatenate([between, np.angle(values[own])])


def length_ratios(calls: Sequence[Multipliers]) -> np.ndarray:
    """How many times as long each pair became: the median over tokens, float64 [P]."""
    return np.median(np.abs(np.concatenate([call.values for call in calls])), axis=0)


def _as_complex(x: np.ndarray, interleaved: bool, pairs: int) -> np.ndarray:
    """[B, N, S, H] as complex [B, N, S, P]."""
    x = x.astype(np.float64)
    if interleaved:
        return x[..., 0 : 2 * pairs : 2] + 1j * x[..., 1 : 2 * pairs : 2]
    return x[..., :pairs] + 1j * x[..., pairs : 2 * pairs]
