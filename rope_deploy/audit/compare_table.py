"""Compare a table of a file with a rule: its worst entry, in units of what rounding explains (table_tolerances.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rope_deploy.audit.table_tolerances import budget
from rope_deploy.graph.reading import FoundTable
from rope_deploy.rope import Angles, RopeSpec, cos_sin, tables

CHUNK = 8192
DENSE = 1024  # positions from 0 on that are always among a sample
SAMPLED = 3072  # further ones


@dataclass(frozen=True)
class TableComparison:
    """The worst entry of a table: `ratio` is its error in units of what rounding explains (up to 1 is sound).

    `length` is that of the call in which it was found; `lengths` are those in which nothing is wrong.
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


def compare_table(table: FoundTable, spec: RopeSpec, max_position: int) -> TableComparison:
    """Compare every row of a stored table, or a sample of positions of a computed one, with `spec`.

    A rule that depends on the length is compared in calls of several lengths. Raises Unreadable.
    """
    worst = TableComparison(0.0, 0.0, 0, 0, "cosine", 0, 0, frozenset())
    wrong, right, rows = set(), set(), 0
    for length in lengths_of(table, spec, max_position):
        before = worst
        for positions in positions_of(table, length):
            cos, sin = table.at(positions, length)
            rows += len(positions)
            allowed = budget(table, spec, positions, length)
            cos_expected, sin_expected = cos_sin(spec, positions, angles="float64", seq_len=length)
            worst = _worse(worst, cos, cos_expected, allowed, positions, "cosine", length)
            worst = _worse(worst, sin, sin_expected, allowed, positions, "sine", length)
        (right if worst is before or worst.ratio <= 1 else wrong).add(length)
    return TableComparison(
        worst.ratio, worst.error, worst.position, worst.pair, worst.what, worst.length, rows, frozenset(right - wrong)
    )


def difference_from_rule(
    cos: np.ndarray, sin: np.ndarray, spec: RopeSpec, *, angles: Angles = "model", seq_len: int | None = None
) -> tuple[float, int]:
    """The largest difference of tables [rows, R/2] from those of `spec`, and the row where it is. NaN differs by inf.

    The roundings that `angles` names are repeated, as `cos_sin` does, where `compare_table` allows for any others: so
    this tells tables that PyTorch made in fp32 from those made in fp64, and names no mistake.
    """
    worst, where = 0.0, 0
    for mine, theirs in zip((cos, sin), tables(spec, len(cos), angles=angles, seq_len=seq_len), strict=True):
        difference = np.nan_to_num(np.abs(mine.astype(np.float64) - theirs), nan=np.inf).max(axis=1, initial=0.0)
        if difference.size and difference.max() > worst:
            worst, where = float(difference.max()), int(difference.argmax())
    return worst, where


def lengths_of(table: FoundTable, spec: RopeSpec, max_position: int) -> list[int]:
    """The lengths of the calls in which a table is compared; around the threshold of a rule that depends on it."""
    most = table.rows or max_position
    threshold = spec.original_max_position if spec.depends_on_length else None
    if table.positions == "counted":
        return [min(most, DENSE + SAMPLED) if table.rows is None else most]
    wanted = [min(64, most), most] if threshold is None else [threshold, threshold + 1, (threshold + most) // 2, most]
    return sorted({length for length in wanted if 0 < length <= most} or {most})


def positions_of(table: FoundTable, length: int) -> Iterator[np.ndarray]:
    """Positions below `length`: all that a stored table has, in chunks; of another table a sample, always the same."""
    if table.positions == "counted":
        yield np.arange(length)
    elif table.stored:
        for start in range(0, length, CHUNK):
            yield np.arange(start, min(start + CHUNK, length))
    else:
        yield _sample(length)


def _sample(length: int) -> np.ndarray:
    """The first positions, the last, and others between them; always the same."""
    if length <= DENSE + SAMPLED:
        return np.arange(length)
    others = np.random.default_rng(0).choice(length - DENSE, SAMPLED, replace=False) + DENSE
    ends = np.arange(length - 64, length)
    return np.unique(np.concatenate([np.arange(DENSE), others, ends, 2 ** np.arange(int(np.log2(length)))]))


def _worse(worst: TableComparison, found, expected, allowed, positions, what: str, length: int) -> TableComparison:
    if found.shape != expected.shape:
        return TableComparison(np.inf, np.inf, 0, 0, what, length, 0, frozenset())
    error = np.abs(found.astype(np.float64) - expected)
    ratio = np.where(np.isnan(error), np.inf, error) / allowed
    at = int(ratio.argmax())
    if ratio.flat[at] <= worst.ratio:
        return worst
    row, pair = divmod(at, ratio.shape[1])
    measured = float(error.flat[at])
    return TableComparison(float(ratio.flat[at]), measured, int(positions[row]), pair, what, length, 0, frozenset())
