"""Compute the geometry of the plots in the HTML page, in percent of their frame; the template draws them.

Lines are drawn in a stretched SVG and labels as HTML over it, so a plot fills any width, its text keeps its size, and
its colours are the page's, light or dark. matplotlib and pygal write SVG files with text and colours inside, which
have neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rope_deploy.report.plot_axes import Tick, runs_of, ticks_of
from rope_deploy.results import wording
from rope_deploy.results.records import ErrorCurve, LatencyRecord, Report
from rope_deploy.runtime_registry import REFERENCE

COLUMNS = 400  # points that a plot has room for; of the positions that share one, the worst is drawn
BREAK = 4.0  # percent of the width between two runs of positions
# Points of a line are joined over at most so many steps of its run (more in a long run): the positions between were
# measured for other styles only, or share a column with a worse one.
LONGEST_JOIN = 4


@dataclass(frozen=True)
class Line:
    """One role's errors: an SVG path in a 100 × 100 box, y downwards."""

    role: str
    path: str
    label: str


@dataclass(frozen=True)
class ErrorPlot:
    """Errors of one style in one runtime. `tolerance` is the height of its line."""

    title: str
    worst: str
    failed: bool
    lines: tuple[Line, ...]
    tolerance: float | None
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    breaks: tuple[float, ...]


@dataclass(frozen=True)
class Bar:
    """One timing; `width`, `low` and `high` (median, 10th and 90th percentile) in percent of the width."""

    style: str
    runtime: str
    value: str
    ratio: str
    width: float
    low: float
    high: float
    reference: bool
    fastest: bool


@dataclass(frozen=True)
class BarChart:
    workload: str
    note: str
    bars: tuple[Bar, ...]


def error_plots(report: Report) -> tuple[ErrorPlot, ...]:
    """One plot per style and runtime, all on the same axes so that they can be compared at a glance."""
    curves = [curve for curve in report.curves if curve.positions]
    if not curves:
        return ()
    axes = _Axes.of(curves)
    keys = dict.fromkeys((c.style, c.runtime) for c in curves)
    return tuple(_error_plot([c for c in curves if (c.style, c.runtime) == key], axes) for key in keys)


def bar_charts(report: Report) -> tuple[BarChart, ...]:
    """One chart per workload, its bars fastest first. Timings that are zero or no number have no bar."""
    names = dict.fromkeys(record.workload for record in report.latencies)
    return tuple(_bar_chart(name, [r for r in report.latencies if r.workload == name]) for name in names)


@dataclass(frozen=True)
class _Axes:
    """The axes that all plots share. x: the positions that were measured, side by side, with a break where some were
    left out. y: log10(error) from `low` to `high`; with `zeros`, errors of exactly 0 lie below `low`, on the edge."""

    runs: tuple[tuple[int, ...], ...]
    low: int
    high: int
    zeros: bool

    @classmethod
    def of(cls, curves: Sequence[ErrorCurve]) -> _Axes:
        errors = [e for c in curves for e in c.errors]
        seen = [e for e in (*errors, *(c.tolerance for c in curves)) if 0 < e < math.inf]
        low, high = (min(seen), max(seen)) if seen else (1e-8, 1e-3)
        floor = max(-14, math.floor(math.log10(low)))
        return cls(
            runs=runs_of(sorted({p for c in curves for p in c.positions})),
            low=floor,
            high=min(max(math.floor(math.log10(high)) + 1, floor + 1), 300),
            zeros=0.0 in errors,
        )

    def xs(self) -> dict[int, float]:
        """The x of each measured position, in percent."""
        total = sum(map(len, self.runs))
        unit = (100 - BREAK * (len(self.runs) - 1)) / max(1, total - len(self.runs))
        where, x = {}, 0.0
        for run in self.runs:
            where |= {position: x + index * unit for index, position in enumerate(run)}
            x += (len(run) - 1) * unit + BREAK
        return where

    def y(self, error: float) -> float:
        """The y of an error, in percent from the top: 0 for nan and infinity, 100 for zero."""
        if error == 0:
            return 100.0
        if not error < math.inf:
            return 0.0
        floor = 90 if self.zeros else 100
        share = (self.high - math.log10(error)) / (self.high - self.low)
        return min(max(share, 0.0), 1.0) * floor

    def x_ticks(self) -> tuple[Tick, ...]:
        return ticks_of(self.runs, self.xs())

    def breaks(self) -> tuple[float, ...]:
        """The middles of the gaps between runs, in percent."""
        xs = self.xs()
        return tuple(round(xs[run[0]] - BREAK / 2, 2) for run in self.runs[1:])

    def y_ticks(self) -> tuple[Tick, ...]:
        step = max(1, math.ceil((self.high - self.low) / 5))
        ticks = [Tick(round(self.y(10.0**k), 2), f"1e{k}") for k in range(self.high, self.low - 1, -step)]
        return (*ticks, Tick(100.0, "0")) if self.zeros else tuple(ticks)


def _error_plot(curves: Sequence[ErrorCurve], axes: _Axes) -> ErrorPlot:
    failed = any(not error <= curve.tolerance for curve in curves for error in curve.errors)
    tolerances = [curve.tolerance for curve in curves if curve.tolerance > 0]
    worst = max((error for curve in curves for error in curve.errors), key=_badness)
    return ErrorPlot(
        title=wording.target(curves[0].style, curves[0].runtime),
        worst=wording.error(worst),
        failed=failed,
        lines=tuple(_line(curve, axes) for curve in curves),
        tolerance=round(axes.y(min(tolerances)), 2) if tolerances else None,
        x_ticks=axes.x_ticks(),
        y_ticks=axes.y_ticks(),
        breaks=axes.breaks(),
    )


def _line(curve: ErrorCurve, axes: _Axes) -> Line:
    worst = max(zip(curve.errors, curve.positions), key=lambda pair: _badness(pair[0]))
    label = f"{curve.role}: at most {wording.error(worst[0])}, at position {worst[1]}"
    return Line(wording.line(curve.role), _path(curve, axes), wording.line(label))


def _path(curve: ErrorCurve, axes: _Axes) -> str:
    error_at: dict[int, float] = {}
    for position, error in zip(curve.positions, curve.errors):
        error_at[position] = max(error, error_at.get(position, 0.0), key=_badness)
    xs = axes.xs()
    path = ""
    for run in axes.runs:
        columns: dict[int, tuple[int, float, float]] = {}
        for rank, position in enumerate(run):
            if position in error_at:
                x, error = xs[position], error_at[position]
                column = round(x * COLUMNS / 100)
                if column not in columns or _badness(error) > _badness(columns[column][2]):
                    columns[column] = (rank, x, error)
        before = -math.inf
        for rank, x, error in columns.values():
            joined = rank - before <= max(LONGEST_JOIN, 2 * len(run) / COLUMNS)
            # "h0" makes a dot of a point that stands alone.
            path += f"{'L' if joined else 'M'}{x:.2f} {axes.y(error):.2f}{'' if joined else 'h0'}"
            before = rank
    return path


def _bar_chart(workload: str, records: Sequence[LatencyRecord]) -> BarChart:
    sound = [r for r in records if 0 < r.median_ms < math.inf]
    # One busy moment must not squeeze all the bars: the whisker of a wild timing is cut at the edge.
    longest = max((min(r.p90_ms, 1.25 * r.median_ms) for r in sound), default=1.0)
    longest = max(longest, *(r.median_ms for r in sound)) if sound else longest
    ordered = sorted(sound, key=lambda record: record.median_ms)
    tokens = dict.fromkeys(wording.count(r.tokens, "token") for r in ordered)
    rounds = dict.fromkeys(wording.count(r.rounds, "round") for r in ordered)
    return BarChart(
        workload=wording.line(workload),
        note=f"median of {' or '.join(rounds)}, {' or '.join(tokens)} each" if ordered else "nothing measured",
        bars=tuple(
            Bar(
                style=wording.line(record.style),
                runtime=wording.runtime(record.runtime),
                value=wording.milliseconds(record.median_ms),
                ratio=wording.ratio(record.ratio),
                width=round(100 * record.median_ms / longest, 2),
                low=round(100 * min(record.p10_ms, longest) / longest, 2),
                high=round(100 * min(record.p90_ms, longest) / longest, 2),
                reference=record.runtime == REFERENCE,
                fastest=index == 0 and len(ordered) > 1,
            )
            for index, record in enumerate(ordered)
        ),
    )


def _badness(error: float) -> float:
    """A key that sorts errors by size, nan with infinity."""
    return math.inf if math.isnan(error) else error
