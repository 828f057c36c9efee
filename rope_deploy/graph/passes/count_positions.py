"""Count positions: a graph works them out itself, in every row one after another, from where the past ends."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.analysis.dependence import POSITION_INPUT
from rope_deploy.graph.builder import Builder


class CountPositionsPass(ir.passes.InPlacePass):
    """Replaces the input `position_ids` [B, S] by counting along the tokens of `input_ids`.

    Requires an input `input_ids` [batch, sequence], and a cache, if any, with an axis named `past`; the graph may have
    to be sorted afterwards. Ensures that `position_ids` is no input any more. Changes nothing where it is none.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        given = [value for value in graph.inputs if value.name == POSITION_INPUT]
        for positions in given:
            positions.replace_all_uses_with(counted_positions(graph))
            graph.inputs.remove(positions)
        return ir.passes.PassResult(model, bool(given))


def counted_positions(graph: ir.Graph) -> ir.Value:
    """[B, S], int64: past, past + 1 … in every row of `input_ids`, where the past is as long as the graph's cache."""
    tokens = next(value for value in graph.inputs if value.name == "input_ids")
    build, integer = Builder(graph[0], "positions", after=False), ir.DataType.INT64

    def size(value: ir.Value, axis: int) -> ir.Value:
        return build.op("Squeeze", build.op("Shape", value, start=axis, end=axis + 1, dtype=integer, shape=[1]),
                        dtype=integer, shape=[])  # fmt: skip

    zero, one = (build.constant(np.array(n, np.int64), f"int_{n}") for n in (0, 1))
    shapes = ((value, [str(dim) for dim in value.shape]) for value in graph.inputs)
    grown = next(((value, dims.index("past")) for value, dims in shapes if "past" in dims), None)
    start = zero if grown is None else size(*grown)
    end = build.op("Add", start, size(tokens, 1), dtype=integer, shape=[])
    count = build.op("Range", start, end, one, dtype=integer, shape=["sequence"])
    shape = build.op("Shape", tokens, dtype=integer, shape=[2])
    return build.op("Expand", count, shape, dtype=integer, shape=tokens.shape)
