"""Positions of a graph that takes none and whose calls all have as many tokens: a token's position is its row.

The patches of an image or the frames of a recording have fixed positions: cos and sin are constants with a row for
each, whatever rule of rows, columns and times they were made by. They are recognised by what they are, two factors of
one sum whose squares add up to the same number everywhere, and tabulated as they are. Position p is row p; where the
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
from rope_deploy.graph.markers import Table
from rope_deploy.graph.raising.match import Match, NotARotation, concrete, find_sums, with_batch
from rope_deploy.graph.raising.tabulate import factors_of, halves

ROUNDING = 1e-2  # relative; of cos² + sin², in half-precision tables too


class FixedRows:
    """The position source of a graph for a fixed number of tokens.

    A tensor may lack the batch axis, and each half of a head may have a rotation of its own. Blocks of a tower may be
    numbered anew in every stage, so its rotations are counted in the order in which they run.
    """

    ranks, any_pairs, numbered = (4, 3), True, False

    def __init__(self, graph: ir.Graph, cos: Trig | None = None, sin: Trig | None = None):
        self._graph, self._trig, self._inputs = graph, {"cos": cos, "sin": sin}, dummy_inputs(graph)
        self._positions: dict[tuple, ir.Value] = {}
        self._known: dict[tuple, tuple[Table, bool]] = {}
        self._tables = self._cosines_and_sines()

    def marks(self) -> Marks:
        """What each value of the graph, as it is now, depends on; cos and sin stand for positions."""
        return dependences(self._graph, tables=self._tables, counting=False)

    def table(self, match: Match) -> Table:
        """A row for each token of one image, or of all images where these differ. Raises NotARotation, NotEvaluable."""
        return self._read(match)[0]

    def rows(self, table: Table) -> int:
        """As many as the table has."""
        return len(table.cos)

    def positions(self, match: Match) -> ir.Value:
        """The row of each token of `match`, [B, S], int64: a constant, expanded to the batch where that is open."""
        shape = with_batch(match.source.shape)
        batch, sequence, by_image = shape[0], shape[match.sequence_axis], self._read(match)[1]
        key = (str(batch), sequence, by_image)
        if key not in self._positions:
            self._positions[key] = self._made(match.source, batch, sequence, by_image)
        return self._positions[key]

    def _made(self, x: ir.Value, batch, sequence: int, by_image: bool) -> ir.Value:
        producer, stem = x.producer(), f"rope/positions/{len(self._positions)}"
        build = Builder(self._graph[0], stem, after=False) if producer is None else Builder(producer, stem)
        row = np.arange(sequence * (batch if by_image else 1), dtype=np.int64).reshape(-1, sequence)
        if isinstance(batch, int):
            return build.constant(np.broadcast_to(row, (batch, sequence)).copy())
        integer = ir.DataType.INT64
        count = build.op("Shape", x, start=0, end=1, dtype=integer, shape=[1])
        shape = build.op("Concat", count, build.ints([sequence]), axis=0, dtype=integer, shape=[2])
        return build.op("Expand", build.constant(row), shape, dtype=integer, shape=[batch, sequence])

    def _read(self, match: Match) -> tuple[Table, bool]:
        """The table of `match`, and whether it has rows of their own for each image of the batch."""
        shape = with_batch(match.source.shape)
        key = (match.cos, match.sin, match.heads_axis, str(shape[0]), shape[match.sequence_axis])
        if key not in self._known:
            batch, sequence = concrete(ir.Shape([shape[0], shape[match.sequence_axis]]), SIZES)
            factors = factors_of(match)
            arrays = evaluate(factors, self._inputs, **self._trig)
            cos, sin = halves(match, dict(zip(factors, arrays, strict=True)), (batch, sequence))
            images = [half.reshape(batch, sequence, -1) for half in (cos, sin)]
            by_image = any((half != half[:1]).any() for half in images)
            if by_image and not isinstance(shape[0], int):
                raise NotARotation("its table differs within a batch of any size")
            rows = slice(None) if by_image else slice(0, sequence)
            self._known[key] = Table("table", cos[rows], sin[rows]), by_image
        return self._known[key]

    def _cosines_and_sines(self) -> set[ir.Value]:
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
        # Every sum of activations may be one of products with such constants; those that are keep their factors.
        products = {
            node.outputs[0]: Dependence.POSITION | Dependence.ACTIVATION
            for node in self._graph
            if node.op_type in ("Add", "Sub") and marks.get(node.outputs[0]) == Dependence.ACTIVATION
        }
        known: dict[tuple[ir.Value, ir.Value], bool] = {}
        for found in find_sums(self._graph, {**marks, **constants, **products}):
            pair = found.products[0].factor, found.products[1].factor
            if pair not in known:
                known[pair] = self._are_cos_and_sin(*pair)
        return {value for pair, rotates in known.items() if rotates for value in pair}

    def _are_cos_and_sin(self, one: ir.Value, other: ir.Value) -> bool:
        """Whether two factors are cosines and sines of the same angles, up to one scale.

        Factors that cannot be evaluated are taken for other constants: their products stay in the graph as they are.
        """
        try:
            first, second = (np.asarray(a, np.float64) for a in evaluate([one, other], self._inputs, **self._trig))
        except NotEvaluable:
            return False
        if first.shape[-1] != second.shape[-1] or first.size == 1:
            return False
        squares = first**2 + second**2
        return bool(np.allclose(squares, squares.flat[0], rtol=ROUNDING, atol=0) and squares.flat[0] > 0)


def _has_rows(value: ir.Value) -> bool:
    """Whether `value` may be a table: a weight that scales channels has one axis, cos and sin one for tokens too."""
    floating = value.dtype is None or value.dtype.is_floating_point()
    return floating and (value.shape is None or len(value.shape) > 1)
