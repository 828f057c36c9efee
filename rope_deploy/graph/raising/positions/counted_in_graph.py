"""Positions that a graph counts itself, along its tokens, from where its past ends.

The table is what it computes for a first call of as many tokens as there are positions: row p is its p-th token's.
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
from rope_deploy.graph.passes.count_positions import counted_positions
from rope_deploy.graph.raising.match import Match, NotARotation
from rope_deploy.graph.raising.tabulate import CONFIRM_ULPS, Halves, Tabulator, factors_of, halves


class CountedInGraph:
    """The position source of a graph without `position_ids`: whole calls are evaluated, not single positions."""

    ranks, any_pairs, numbered = (4,), False, True

    def __init__(self, graph: ir.Graph, max_position: int, cos: Trig | None, sin: Trig | None):
        self._graph, self._max, self._trig = graph, max_position, {"cos": cos, "sin": sin}
        self._tabulator = Tabulator(graph, self.marks(), max_position, self._halves, self._confirm)
        self._calls: dict[tuple, Halves] = {}
        self._positions: ir.Value | None = None

    def marks(self) -> Marks:
        """What each value of the graph, as it is now, depends on; counted values are positions."""
        return dependences(self._graph)

    def table(self, match: Match) -> Table:
        """The table of `match`. Raises NotARotation or NotEvaluable if its columns are no cos and sin of positions."""
        return self._tabulator.table(match)

    def rows(self, table: Table) -> int:
        """As many positions as were asked for, whatever kind of table it is."""
        return self._max

    def positions(self, match: Match) -> ir.Value:
        """The position of each token, [B, S], int64, as the graph counts it: made once for all rotations."""
        self._positions = counted_positions(self._graph) if self._positions is None else self._positions
        return self._positions

    def _halves(self, match: Match, positions: np.ndarray, *, widened: bool = False) -> Halves:
        cos, sin = self._call(match, 0, self._max, widened=widened)
        return cos[positions.reshape(-1)], sin[positions.reshape(-1)]

    def _call(self, match: Match, past: int, tokens: int, *, widened: bool = False) -> Halves:
        """cos and sin, [tokens, R/2], of a call with one sequence of `tokens` that follow `past` others."""
        key = (match.cos, match.sin, match.heads_axis, past, tokens, widened)
        if key not in self._calls:
            sizes = {**SIZES, "batch": 1, "sequence": tokens, "past": past, "total": past + tokens}
            factors = factors_of(match)
            arrays = evaluate(factors, dummy_inputs(self._graph, sizes), **self._trig, widened=widened)
            self._calls[key] = halves(match, dict(zip(factors, arrays, strict=True)), (1, tokens))
        return self._calls[key]

    def _confirm(self, match: Match, table: Table) -> None:
        """Raise NotARotation unless a later call goes on where its past ends, and a shorter one is part of a longer."""
        past, tokens = (SIZES[name] for name in ("past", "sequence"))
        slack = CONFIRM_ULPS * float(ml_dtypes.finfo(table.cos.dtype).eps)
        for start in {0, past} if self._continues() else {0}:
            for computed, cache in zip(self._call(match, start, tokens), (table.cos, table.sin), strict=True):
                stored = cache[start : start + tokens].astype(np.float64)
                if not np.allclose(computed, stored, rtol=0, atol=slack * max(1.0, np.abs(stored).max())):
                    raise NotARotation("the graph does not count its tokens from where its past ends")

    def _continues(self) -> bool:
        return any("past" in map(str, value.shape) for value in self._graph.inputs)
