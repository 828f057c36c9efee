"""What holds for every table, whichever rule it follows: checked where no rule is stated.

Row 0 is no rotation; cos² + sin² is the same everywhere, attention_scaling squared; the angle of each pair grows by
the same amount from each position to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rope_deploy.graph.reading import FoundTable
from rope_deploy.parity.audit.fit import DENSE, FREQUENCY, positions_of, slack


@dataclass(frozen=True)
class Broken:
    """An invariant that does not hold; `ratio` in units of what rounding explains."""

    code: str
    explanation: str
    position: int
    ratio: float


def broken_invariants(table: FoundTable, max_position: int) -> list[Broken]:
    """The invariants that `table` breaks. Raises Unreadable."""
    most = table.rows or max_position
    length = min(most, 4 * DENSE) if table.positions == "counted" else most
    first = table.at(np.arange(1), 1 if table.positions == "counted" else length)
    cos0, sin0 = (half[0].astype(np.float64) for half in first)
    allowed, found = slack(table), []
    scale = float(np.median(cos0))
    at_rest = max(np.abs(sin0).max(), np.abs(cos0 - scale).max())
    if not at_rest <= max(1.0, abs(scale)) * 2 * allowed or scale <= 0:
        found.append(Broken("RD201", "Position 0 is turned; it must not be.", 0, at_rest / allowed))
        return found
    worst_norm, worst_step = (0.0, 0), (0.0, 0)
    step = None
    for positions in positions_of(table, length):
        cos, sin = (half.astype(np.float64) for half in table.at(positions, length))
        z = cos + 1j * sin
        norm = np.abs(np.abs(z) - scale).max(axis=1) / (2 * scale * allowed)
        worst_norm = max(worst_norm, _worst(norm, positions))
        if step is None and len(z) > 1:
            step = z[1] / z[0]
        next_to = np.flatnonzero(np.diff(positions) == 1)
        if step is not None and len(next_to):
            turned = np.abs(z[next_to] * step - z[next_to + 1])
            # Errors of two rows and of the step; the rounding of an angle grows with it.
            angle = positions[next_to][:, None] * np.abs(np.angle(step))
            ratio = (turned / (scale * (4 * allowed + 2 * FREQUENCY * (1 + angle)))).max(axis=1)
            worst_step = max(worst_step, _worst(ratio, positions[next_to + 1]))
    if worst_norm[0] > 1:
        where = worst_norm[1]
        found.append(Broken("RD403", f"cos² + sin² is not the same at position {where}.", where, worst_norm[0]))
    if worst_step[0] > 1:
        where = worst_step[1]
        said = f"Angles do not grow evenly: the step to position {where} is another than the first."
        found.append(Broken("RD900", said, where, worst_step[0]))
    return found


def _worst(ratio: np.ndarray, positions: np.ndarray) -> tuple[float, int]:
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    at = int(ratio.argmax())
    return float(ratio[at]), int(positions[at])
