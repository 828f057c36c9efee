"""Place positions on a horizontal axis: runs of measured positions side by side, and a gap where some were left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

CHARACTER = 2.6  # percent of the width that a character of a label takes on a phone
MOST_RUNS = 6  # positions that would fall into more runs are one run


@dataclass(frozen=True)
class Tick:
    """A label at `at` percent of the axis."""

    at: float
    label: str


def runs_of(positions: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Sorted positions, split where a step is more than 8 times the median one; split too often, they stay one run."""
    steps = [b - a for a, b in pairwise(positions)]
    usual = sorted(steps)[len(steps) // 2] if steps else 1
    cuts = [i + 1 for i, step in enumerate(steps) if step > 8 * usual]
    if len(cuts) >= MOST_RUNS:
        cuts = []
    return tuple(tuple(positions[a:b]) for a, b in zip([0, *cuts], [*cuts, len(positions)]))


def ticks_of(runs: Sequence[Sequence[int]], xs: dict[int, float]) -> tuple[Tick, ...]:
    """Ticks: for each run its range, or its start where the range is too long; for a single run its quarters.

    `xs` is the percentage of each position. A tick that would touch another is left out.
    """
    if len(runs) == 1:
        (run,) = runs
        wanted = [(xs[p], [str(p)]) for p in (run[-1], run[0], *(run[len(run) * k // 4] for k in (2, 1, 3)))]
    else:
        wanted = [
            ((xs[run[0]] + xs[run[-1]]) / 2, [f"{run[0]}–{run[-1]}"] * (len(run) > 1) + [str(run[0])])
            for run in (runs[-1], *runs[:-1])
        ]
    ticks: list[Tick] = []
    for at, labels in wanted:
        fitting = [label for label in labels if all(_apart(Tick(at, label), tick) for tick in ticks)]
        ticks += [Tick(round(at, 2), fitting[0])] if fitting else []
    return tuple(sorted(ticks, key=lambda tick: tick.at))


def _apart(one: Tick, other: Tick) -> bool:
    return abs(one.at - other.at) >= CHARACTER * (len(one.label) + len(other.label) + 2) / 2
