"""How far a table of a file is from what a rule says, in units of what rounding explains.

    |found − due| ≤ scale · (half an ulp at 1 of the table's type + FP32_SLACK + FREQUENCY · angle)

`due` is computed in fp64. FP32_SLACK is a cosine of PyTorch's (an ulp) and the product with attention_scaling
(another); FREQUENCY is what eight roundings to fp32 on the way from rope_theta to the angle amount to: a power, a
reciprocal, the product with the position, and for scaling rules a blend. Half-precision arithmetic on that way costs
hundreds of times as much, so it does not pass; an exporter with its own order of operations does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from rope_deploy.graph.reading import FoundTable
from rope_deploy.rope import RopeSpec, cos_sin

FP32_SLACK = 2.5e-7
FREQUENCY = 8 * 2.0**-24
CHUNK = 8192
DENSE = 1024  # positions from 0 on that are always among a sample
SAMPLED = 3072  # further ones


@dataclass(frozen=True)
class Fit:
    """The worst entry of a table: `ratio` of its error to what rounding explains (1 and less is sound).

    `length` is that of the call in which it shows; `lengths` those in which nothing is wrong.
    """

    ratio: float
    error: float
    position: int
    pair: int
    what: str
    length: int
    rows: int
    lengths: frozenset[int]

    @property
    def sound(self) -> bool:
        return self.ratio <= 1

    @property
    def budget(self) -> float:
        return self.error / self.ratio if 0 < self.ratio < np.inf else 0.0


def fit(table: FoundTable, spec: RopeSpec, max_position: int) -> Fit:
    """Compare every row of a stored table, and a sample of positions of a computed one, with `spec`.

    A rule of the length is compared in calls of several lengths. Raises Unreadable.
    """
    worst = Fit(0.0, 0.0, 0, 0, "cosine", 0, 0, frozenset())
    wrong, right, rows = set(), set(), 0
    for length in lengths_of(table, spec, max_position):
        before = worst
        for positions in positions_of(table, length):
            cos, sin = table.at(positions, length)
            rows += len(positions)
            for what, found, due in zip(("cosine", "sine"), (cos, sin), due_at(spec, positions, length), strict=True):
                worst = _worse(worst, found, due, budget(table, spec, positions, length), positions, what, length)
        (right if worst is before or worst.ratio <= 1 else wrong).add(length)
    return Fit(
        worst.ratio, worst.error, worst.position, worst.pair, worst.what, worst.length, rows, frozenset(right - wrong)
    )


def due_at(spec: RopeSpec, positions: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin [P, R/2] by the rule, computed in fp64."""
    return cos_sin(spec, positions, angles="float64", seq_len=length)


def budget(table: FoundTable, spec: RopeSpec, positions: np.ndarray, length: int) -> np.ndarray:
    """What rounding explains of an entry's error, [P, R/2]."""
    angle = positions[:, None] * np.abs(spec.inv_freq(length, np.float64))
    return max(1.0, spec.attention_scaling) * (slack(table) + FREQUENCY * angle)


def slack(table: FoundTable) -> float:
    """The part of it that does not grow with the position. A table shorter than what it turns gets no more for it."""
    name = table.precision.table if table.precision.table == table.precision.activations else "float32"
    return float(ml_dtypes.finfo(name).eps) / 2 + FP32_SLACK


def lengths_of(table: FoundTable, spec: RopeSpec, max_position: int) -> list[int]:
    """Lengths of the calls in which a table is compared; one where the rule does not look at it, and a short one."""
    most = table.rows or max_position
    turn = spec.original_max_position if spec.depends_on_length else None
    if table.positions == "counted":
        return [min(most, DENSE + SAMPLED) if table.rows is None else most]
    wanted = [min(64, most), most] if turn is None else [turn, turn + 1, (turn + most) // 2, most]
    return sorted({length for length in wanted if 0 < length <= most} or {most})


def positions_of(table: FoundTable, length: int) -> Iterator[np.ndarray]:
    """Positions below `length`: all that a stored table has, in pieces, or a sample."""
    if table.positions == "counted":
        yield np.arange(length)
    elif table.stored:
        for start in range(0, length, CHUNK):
            yield np.arange(start, min(start + CHUNK, length))
    else:
        yield sample(length)


def sample(length: int) -> np.ndarray:
    """The first positions, the last, and others between them; always the same."""
    if length <= DENSE + SAMPLED:
        return np.arange(length)
    others = np.random.default_rng(0).choice(length - DENSE, SAMPLED, replace=False) + DENSE
    ends = np.arange(length - 64, length)
    return np.unique(np.concatenate([np.arange(DENSE), others, ends, 2 ** np.arange(int(np.log2(length)))]))


def _worse(worst: Fit, found, due, allowed, positions, what: str, length: int) -> Fit:
    if found.shape != due.shape:
        return Fit(np.inf, np.inf, 0, 0, what, length, 0, frozenset())
    error = np.abs(found.astype(np.float64) - due)
    ratio = np.where(np.isnan(error), np.inf, error) / allowed
    at = int(ratio.argmax())
    if ratio.flat[at] <= worst.ratio:
        return worst
    row, pair = divmod(at, ratio.shape[1])
    measured = float(error.flat[at])
    return Fit(float(ratio.flat[at]), measured, int(positions[row]), pair, what, length, 0, frozenset())
