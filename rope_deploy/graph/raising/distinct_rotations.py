"""The distinct rotations of a graph: sites with equal layouts and tables, equal to the last bit, share one."""

from __future__ import annotations

import hashlib

import numpy as np

from rope_deploy.graph.markers import RaisedRotation, Table
from rope_deploy.graph.raising.match import Match


class DistinctRotations:
    """Collects the rotations of matches in the order in which they are first met."""

    def __init__(self):
        self._known: dict[tuple, tuple[int, RaisedRotation]] = {}

    def index(self, match: Match, table: Table, rows: int) -> int:
        """The number of the rotation of `match`; `rows` is how many positions its table serves."""
        content = _digest(table.cos), _digest(table.sin), table.original, table.axes
        computed = (match.cos, match.sin) if table.kind == "computed" else None
        key = (match.head_dim, match.rotary_dim, match.interleaved, match.order, match.element_order, content, computed)
        if key not in self._known:
            rotation = RaisedRotation(
                name=f"rope_{len(self._known)}",
                table=table,
                head_dim=match.head_dim,
                rotary_dim=match.rotary_dim,
                interleaved=match.interleaved,
                max_position=rows,
                rearranged=match.order is not None,
                element_order=match.element_order or (),
            )
            self._known[key] = len(self._known), rotation
        return self._known[key][0]

    def all(self) -> tuple[RaisedRotation, ...]:
        """Every rotation, by its number."""
        return tuple(rotation for _, rotation in self._known.values())


def _digest(array: np.ndarray) -> bytes:
    return hashlib.sha256(array.tobytes()).digest()
