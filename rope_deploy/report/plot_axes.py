"""Where positions lie on a horizontal axis: what was measured stands side by side, what was left out is a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

# Percent of the width that a character of a label takes on a phone.
CHARACTER = 2.6
MOST_RUNS = 6


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


def runs_of(positions: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Positions split where the step is far beyond the usual one; positions scattered at random stay together."""
    steps = [b - a for a, b in pairwise(positions)]
    usual = sorted(steps)[len(steps) // 2] if steps else 1
    cuts = [i + 1 for i, step in enumerate(steps) if step > 8 * usual]
    if len(cuts) >= MOST_RUNS:
        cuts = []
    return tuple(tuple(positions[a:b]) for a, b in zip([0, *cuts], [*cuts, len(positions)]))


def ticks_of(runs: Sequence[Sequence[int]], xs: dict[int, float]) -> tuple[Tick, ...]:
    """Under each run its range, or its start where that is too long; under a single run its quarters."""
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
