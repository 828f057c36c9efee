"""Compute heat maps of rotation errors: layers downwards, positions to the right, errors as colours.

A colour stands for a range of the error in units of its tolerance. Ranges get wider, since a slight mistake is a few
times the tolerance and a wrong layout millions, and the hue changes at 1. The template draws them; cells of one colour
are one SVG path, so a page of thirty layers stays small. `plots` says why no plotting library is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rope_deploy.report.plot_axes import Tick, runs_of, ticks_of
from rope_deploy.results import wording
from rope_deploy.results.records import ErrorMap, Report

# The upper ends of the colours, in units of the tolerance; the last has none.
STEPS = (0.1, 0.3, 1.0, 10.0, 1e3, 1e5, math.inf)
SOUND_STEPS = STEPS.index(1.0) + 1
# Columns that fit beside one another on a phone, and those that stay empty between two runs of positions.
COLUMNS = 120
GAP = 2
MOST_LABELS = 8


@dataclass(frozen=True)
class Panel:
    """The map of one role. `paths` holds (step, path in a grid of unit cells).

    `at` is the middle of the worst cell, (x, y) in percent, None if nothing exceeds its tolerance.
    """

    role: str
    columns: int
    rows: int
    paths: tuple[tuple[int, str], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    worst: str
    at: tuple[float, float] | None
    label: str


@dataclass(frozen=True)
class HeatMap:
    """The map of one style in one runtime."""

    title: str
    failed: bool
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class _Columns:
    """The column of each position. Neighbours share one where there are more than fit."""

    runs: tuple[tuple[int, ...], ...]
    of: Mapping[int, int]
    count: int

    @classmethod
    def over(cls, positions: Sequence[int]) -> _Columns:
        runs = runs_of(positions)
        room = max(1, COLUMNS - GAP * (len(runs) - 1))
        share = max(1, math.ceil(len(positions) / room))
        of: dict[int, int] = {}
        begin = 0
        for run in runs:
            of |= {position: begin + index // share for index, position in enumerate(run)}
            begin += math.ceil(len(run) / share) + GAP
        return cls(runs, of, max(1, begin - GAP))

    def middle(self, position: int) -> float:
        return 100 * (self.of[position] + 0.5) / self.count


def heat_maps(report: Report) -> tuple[HeatMap, ...]:
    """One map per style and runtime, those that failed first."""
    maps = [m for m in report.maps if m.layers and m.positions]
    keys = dict.fromkeys((m.style, m.runtime) for m in maps)
    drawn = [_heat_map([m for m in maps if (m.style, m.runtime) == key]) for key in keys]
    return tuple(sorted(drawn, key=lambda one: not one.failed))


def legend() -> tuple[tuple[int, str], ...]:
    """(step, range of the error), from the smallest error on."""
    ends = [wording.number(end) if end > 1 else f"{end:g}" for end in STEPS[:-1]]
    meanings = [f"up to {ends[0]}", *(f"to {end}" for end in ends[1:]), "more"]
    return tuple(
        (step, f"{meaning}: sound" if step == SOUND_STEPS - 1 else meaning) for step, meaning in enumerate(meanings)
    )


def _heat_map(maps: Sequence[ErrorMap]) -> HeatMap:
    failed = any(value > 1 for m in maps for row in m.errors for value in row)
    title = wording.target(maps[0].style, maps[0].runtime)
    columns = _Columns.over(sorted({position for m in maps for position in m.positions}))
    return HeatMap(title, failed, tuple(_panel(m, columns) for m in sorted(maps, key=lambda m: m.role, reverse=True)))


def _panel(found: ErrorMap, columns: _Columns) -> Panel:
    grid = [[math.nan] * columns.count for _ in found.layers]
    worst, where = -1.0, None
    for index, (row, layer) in enumerate(zip(found.errors, found.layers)):
        for value, position in zip(row, found.positions):
            column = columns.of[position]
            if not value <= grid[index][column] and not math.isnan(value):
                grid[index][column] = value
            if value > worst:
                worst, where = value, (index, layer, position)
    text = "nothing was seen"
    if where is not None:
        text = f"{worst_text(worst)} at layer {where[1]}, near position {where[2]}"
    return Panel(
        role={"q": "queries", "k": "keys"}.get(found.role, wording.line(found.role)),
        columns=columns.count,
        rows=len(found.layers),
        paths=tuple(_paths(grid)),
        x_ticks=ticks_of(columns.runs, {position: columns.middle(position) for position in columns.of}),
        y_ticks=_layer_ticks(found.layers),
        worst=text,
        at=(columns.middle(where[2]), 100 * (where[0] + 0.5) / len(found.layers)) if where and worst > 1 else None,
        label=wording.line(f"{found.role}, {len(found.layers)} layers by {len(found.positions)} positions: {text}"),
    )


def worst_text(ratio: float) -> str:
    """An error in units of its tolerance, as text."""
    return "not a finite number" if math.isinf(ratio) else wording.percent(ratio)


def step_of(ratio: float) -> int:
    """The number of the colour for an error in units of its tolerance. Exactly 1 is still sound."""
    return next(index for index, end in enumerate(STEPS) if ratio <= end)


def _paths(grid: Sequence[Sequence[float]]) -> Iterator[tuple[int, str]]:
    """(step, path) for each colour in the grid. Neighbours of one colour in a row are one rectangle."""
    drawn: dict[int, str] = {}
    for row, values in enumerate(grid):
        begin = 0
        while begin < len(values):
            if math.isnan(values[begin]):
                begin += 1
                continue
            step = step_of(values[begin])
            end = begin
            while end < len(values) and not math.isnan(values[end]) and step_of(values[end]) == step:
                end += 1
            drawn[step] = drawn.get(step, "") + f"M{begin} {row}h{end - begin}v1h{begin - end}z"
            begin = end
    yield from sorted(drawn.items())


def _layer_ticks(layers: Sequence[int]) -> tuple[Tick, ...]:
    stride = math.ceil(len(layers) / MOST_LABELS)
    return tuple(
        Tick(round(100 * (index + 0.5) / len(layers), 2), str(layer))
        for index, layer in enumerate(layers)
        if index % stride == 0
    )
