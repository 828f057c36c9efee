"""Invariants: what holds of most tables, whichever rule they follow. Compared where no rule is stated.

Row 0 is no rotation; cos² + sin² is the same everywhere, attention_scaling squared; the angle of each pair grows by
the same amount from each position to the next. A model may do otherwise on purpose: shift, clamp or wrap positions, or
scale by the position. So whole stretches that break this are hazards for the reader. A few rows that their own
neighbours contradict are a mistake: no model rotates single positions otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rope_deploy.audit.compare_table import DENSE, positions_of
from rope_deploy.audit.table_tolerances import FEW, slack, step_budget
from rope_deploy.graph.reading import FoundTable


@dataclass(frozen=True)
class BrokenInvariant:
    """An invariant that a table breaks; `ratio` in units of what rounding explains. `surely`: no rule explains it."""

    code: str
    explanation: str
    position: int
    ratio: float
    surely: bool = False


def broken_invariants(table: FoundTable, max_position: int) -> list[BrokenInvariant]:
    """The invariants that `table` breaks, up to `max_position` if it has no rows. Raises Unreadable."""
    most = table.rows or max_position
    length = min(most, 4 * DENSE) if table.positions == "counted" else most
    allowed, found = slack(table), []
    parts = [(positions, *table.at(positions, length)) for positions in positions_of(table, length)]
    positions = np.concatenate([part[0] for part in parts])
    cos, sin = (np.concatenate([part[n] for part in parts]).astype(np.float64) for n in (1, 2))
    if (lost := ~(np.isfinite(cos) & np.isfinite(sin)).all(axis=1)).any():
        where = int(positions[lost.argmax()])
        return [
            BrokenInvariant("RD207", f"Position {where} has no number for its cosine or sine.", where, np.inf, True)
        ]
    z = cos + 1j * sin
    sizes = np.abs(z)
    scale = float(np.median(sizes))
    if scale == 0:
        return [BrokenInvariant("RD403", "cos² + sin² is 0: vectors vanish.", 0, np.inf, True)]
    first_row = np.abs(z[0] - sizes[0]).max() / (max(1.0, scale) * 2 * allowed)
    if first_row > 1:
        text = "Position 0 is rotated. Some models do that; in most it is a table that begins elsewhere."
        found.append(BrokenInvariant("RD201", text, 0, float(first_row)))
    if len(z) < 2 or positions[1] != positions[0] + 1:
        return found
    step = _first_step(z)
    budget = step_budget(table, scale, positions, step)
    next_to = np.diff(positions) == 1
    odd = np.where(next_to, (np.abs(z[:-1] * step - z[1:]) / budget).max(axis=1), 0.0)
    norm = np.abs(sizes - scale).max(axis=1) / (2 * scale * allowed)
    single = _damaged_rows(z, step, budget, next_to, odd)
    few = 0 < single.sum() <= FEW
    for code, ratio, rows, surely, text in (
        ("RD403", norm, norm > 1, few and bool(single[norm > 1].all()), "cos² + sin² is not the same at position {}."),
        ("RD900", np.append(0.0, odd), np.append(0.0, odd) > 1, few,
         "Angles do not grow evenly: the step to position {} is another than the first."),
    ):  # fmt: skip
        if rows.any():
            row = int((np.flatnonzero(single)[0]) if surely else rows.argmax())
            found.append(
                BrokenInvariant(code, text.format(int(positions[row])), int(positions[row]), float(ratio.max()), surely)
            )
    return found


def _first_step(z: np.ndarray) -> np.ndarray:
    """The rotation of each pair from a position to the next, measured at the first step: complex [R/2]."""
    return z[1] / z[0] / np.abs(z[1] / z[0])


def _damaged_rows(z, step, budget, next_to, odd) -> np.ndarray:
    """Rows whose neighbours are two even steps apart, so that the row between them alone is wrong: [rows]."""
    damaged = np.zeros(len(z), bool)
    if len(z) > 2:
        across = (np.abs(z[:-2] * step**2 - z[2:]) / (2 * budget[1:])).max(axis=1) <= 1
        damaged[1:-1] = across & next_to[:-1] & next_to[1:] & (odd[:-1] > 1) & (odd[1:] > 1)
    return damaged
