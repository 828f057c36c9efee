"""Positions from the graph's input `position_ids`: a table is evaluated at every position.

The table is then confirmed: for calls whose positions come in no order and differ between the rows of the batch, the
graph must compute exactly what the table holds for each token's own position.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from rope_deploy.graph.analysis.data_movement import Marks
from rope_deploy.graph.analysis.dependence import dependences
from rope_deploy.graph.analysis.dummy_inputs import SIZES, dummy_inputs
from rope_deploy.graph.analysis.evaluate import Trig, evaluate
from rope_deploy.graph.markers import Table
from rope_deploy.graph.raising.match import Match, NotARotation
from rope_deploy.graph.raising.tabulate import CONFIRM_ULPS, Halves, Tabulator, factors_of, halves, scattered


class FromInput:
    """The position source of a graph that takes `position_ids`, [B, S] or [A, B, S]."""

    ranks, any_pairs, numbered = (4,), False, True

    def __init__(self, graph: ir.Graph, given: ir.Value, max_position: int, cos: Trig | None, sin: Trig | None):
        self._graph, self._given, self._max = graph, given, max_position
        self._trig, self._axes = {"cos": cos, "sin": sin}, _axes(given)
        self._tabulator = Tabulator(graph, self.marks(), max_position, self._halves, self._confirm, axes=self._axes)

    def marks(self) -> Marks:
        """What each value of the graph, as it is now, depends on."""
        return dependences(self._graph)

    def table(self, match: Match) -> Table:
        """The table of `match`. Raises NotARotation or NotEvaluable if its columns are no cos and sin of positions."""
        return self._tabulator.table(match)

    def rows(self, table: Table) -> int:
        """As many positions as were asked for, whatever kind of table it is."""
        return self._max

    def positions(self, match: Match) -> ir.Value:
        """The input, which all rotations share."""
        return self._given

    def _halves(self, match: Match, positions: np.ndarray, *, widened: bool = False) -> Halves:
        """cos and sin of `positions` [B, S]; of positions with several axes, [A, B, S] or all axes alike."""
        factors = factors_of(match)
        batch, sequence = positions.shape[-2:]
        sizes = {**SIZES, "batch": batch, "sequence": sequence, "total": sequence + SIZES["past"]}
        inputs = dummy_inputs(self._graph, sizes)
        if (array := inputs.get(self._given)) is not None:
            if array.ndim != (2 if self._axes is None else 3):
                raise NotARotation(f"its positions are {self._given.shape}, not [batch, sequence]")
            inputs[self._given] = np.broadcast_to(positions, array.shape).astype(array.dtype)
        arrays = evaluate(factors, inputs, **self._trig, widened=widened)
        return halves(match, dict(zip(factors, arrays, strict=True)), (batch, sequence))

    def _confirm(self, match: Match, table: Table) -> None:
        """Raise NotARotation unless the table holds what the graph computes, whichever positions a call brings."""
        if table.kind == "computed":
            self._halves(match, scattered(self._max))
            _require_one_factor(match)
            return
        mixed = scattered(self._max)
        if self._axes is not None:  # another order along each axis
            mixed = np.stack([np.roll(mixed, axis, axis=1) for axis in range(self._axes)])
        calls = [(mixed, table.original)]
        if table.kind == "two-tables":
            calls.append((scattered(table.original), 0))
        slack = CONFIRM_ULPS * float(ml_dtypes.finfo(table.cos.dtype).eps)
        for positions, shift in calls:
            rows = positions.reshape(*positions.shape[:-2], -1) + shift
            for computed, cache in zip(self._halves(match, positions), (table.cos, table.sin), strict=True):
                stored = cache[rows].astype(np.float64)
                if table.axes:
                    stored = stored[list(table.axes), :, np.arange(len(table.axes))].T
                if not np.allclose(computed, stored, rtol=0, atol=slack * max(1.0, np.abs(stored).max())):
                    raise NotARotation("its table does not follow from each token's own position")


def _axes(positions: ir.Value) -> int | None:
    """The number of axes that a position has; None for one that is a single number."""
    shape = positions.shape
    return shape[0] if shape is not None and len(shape) == 3 and isinstance(shape[0], int) else None


def _require_one_factor(match: Match) -> None:
    """Raise NotARotation unless cos is cut out of one value [B, 1, S, width] or [B, S, 1, width], and sin too.

    A rotation that stays in the graph is written for that form only.
    """
    for columns in (match.cos, match.sin):
        kinds = {(column.factor, column.sign) for column in columns[: match.rotary_dim // 2]}
        shape = columns[0].factor.shape
        if len(kinds) != 1 or shape is None or len(shape) != 4:
            raise NotARotation("it changes with the length of the call, and its cosines are not one tensor of 4 axes")
