"""Rotations of a graph that takes no positions: the place of a token is its row.

The patches of an image or the frames of a recording lie where they lie: cos and sin are constants with a row for each,
whatever rule of rows, columns and times they were made by. They are recognised by what they are, two factors of one
sum whose squares add up to the same number everywhere, and tabulated as they stand. Position p is row p; where the
rows differ from image to image of a fixed batch, those of the next image follow those of the one before.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.analysis.data_movement import Marks
from rope_deploy.graph.analysis.dependence import Dependence, dependences
from rope_deploy.graph.analysis.dummy_inputs import SIZES, dummy_inputs
from rope_deploy.graph.analysis.evaluate import NotEvaluable, Trig, evaluate
from rope_deploy.graph.builder import Builder
from rope_deploy.graph.raising.match import Match, NotARotation, concrete, find_sums, with_batch
from rope_deploy.graph.raising.tabulate import Table, factors_of, halves

ROUND = 1e-2  # cos² + sin², of half-precision tables too


def takes_rows(graph: ir.Graph) -> bool:
    """Whether every call of `graph` has as many tokens, so that each has a row of its own."""
    return all(isinstance(dim, int) or str(dim) == "batch" for value in graph.inputs for dim in value.shape)


class RowTabulator:
    """Tells the factors of rotations apart from weights, and reads them."""

    def __init__(self, graph: ir.Graph, cos: Trig | None = None, sin: Trig | None = None):
        self._graph, self._trig, self._inputs = graph, {"cos": cos, "sin": sin}, dummy_inputs(graph)
        self._places: dict[tuple, ir.Value] = {}
        self._known: dict[tuple, tuple[Table, bool]] = {}
        self._tables = self._turning()

    @property
    def marks(self) -> Marks:
        """What each value of the graph, as it is now, depends on; cos and sin stand for positions."""
        return dependences(self._graph, tables=self._tables, counting=False)

    def table(self, match: Match) -> Table:
        """A row for each token of one image, or of all images where these differ. Raises NotARotation, NotEvaluable."""
        return self._read(match)[0]

    def positions(self, match: Match) -> ir.Value:
        """The row of each token of `match`, [B, S], int64: a constant, spread over the batch where that is open."""
        shape = with_batch(match.source.shape)
        batch, sequence, apart = shape[0], shape[match.sequence_axis], self._read(match)[1]
        key = (str(batch), sequence, apart)
        if key not in self._places:
            self._places[key] = self._made(match.source, batch, sequence, apart)
        return self._places[key]

    def _made(self, x: ir.Value, batch, sequence: int, apart: bool) -> ir.Value:
        producer, stem = x.producer(), f"rope/places/{len(self._places)}"
        build = Builder(self._graph[0], stem, after=False) if producer is None else Builder(producer, stem)
        row = np.arange(sequence * (batch if apart else 1), dtype=np.int64).reshape(-1, sequence)
        if isinstance(batch, int):
            return build.constant(np.broadcast_to(row, (batch, sequence)).copy())
        integer = ir.DataType.INT64
        count = build.op("Shape", x, start=0, end=1, dtype=integer, shape=[1])
        shape = build.op("Concat", count, build.ints([sequence]), axis=0, dtype=integer, shape=[2])
        return build.op("Expand", build.constant(row), shape, dtype=integer, shape=[batch, sequence])

    def _read(self, match: Match) -> tuple[Table, bool]:
        """The table of `match`, and whether it has rows for each image of the batch."""
        shape = with_batch(match.source.shape)
        key = (match.cos, match.sin, match.heads_axis, str(shape[0]), shape[match.sequence_axis])
        if key not in self._known:
            batch, sequence = concrete(ir.Shape([shape[0], shape[match.sequence_axis]]), SIZES)
            factors = factors_of(match)
            arrays = evaluate(factors, self._inputs, **self._trig)
            cos, sin = halves(match, dict(zip(factors, arrays, strict=True)), (batch, sequence))
            by_image = [half.reshape(batch, sequence, -1) for half in (cos, sin)]
            apart = any((half != half[:1]).any() for half in by_image)
            if apart and not isinstance(shape[0], int):
                raise NotARotation("its table differs within a batch of any size")
            rows = slice(None) if apart else slice(0, sequence)
            self._known[key] = Table("table", cos[rows], sin[rows]), apart
        return self._known[key]

    def _turning(self) -> set[ir.Value]:
        """The constants that are cosines and sines."""
        plain = dict(dependences(self._graph, counting=False))
        constants = {
            value: Dependence.POSITION
            for node in self._graph
            if node.op_type == "Mul"
            for value in node.inputs
            if plain.get(value, Dependence.NOTHING) == Dependence.NOTHING and _has_rows(value)
        }
        marks = {value: mark for value, mark in plain.items() if value not in constants}
        # What they are multiplied with becomes a candidate; those that turn are kept.
        products = {
            node.outputs[0]: Dependence.POSITION | Dependence.ACTIVATION
            for node in self._graph
            if node.op_type in ("Add", "Sub") and marks.get(node.outputs[0]) == Dependence.ACTIVATION
        }
        turning: dict[tuple[ir.Value, ir.Value], bool] = {}
        for found in find_sums(self._graph, {**marks, **constants, **products}):
            pair = found.products[0].factor, found.products[1].factor
            if pair not in turning:
                turning[pair] = self._turns(*pair)
        return {value for pair, turns in turning.items() if turns for value in pair}

    def _turns(self, one: ir.Value, other: ir.Value) -> bool:
        """Whether two factors are cosines and sines of the same angles, up to one scale."""
        try:
            first, second = (np.asarray(a, np.float64) for a in evaluate([one, other], self._inputs, **self._trig))
        except NotEvaluable:
            return False
        if first.shape[-1] != second.shape[-1] or first.size == 1:
            return False
        squares = first**2 + second**2
        return bool(np.allclose(squares, squares.flat[0], rtol=ROUND, atol=0) and squares.flat[0] > 0)


def _has_rows(value: ir.Value) -> bool:
    """A weight that scales channels has one axis; cos and sin have a row for each token too."""
    floating = value.dtype is None or value.dtype.is_floating_point()
    return floating and (value.shape is None or len(value.shape) > 1)
