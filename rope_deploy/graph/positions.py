"""Positions an encoder works out for itself: 0, 1, 2 … in every row."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.build import Builder
from rope_deploy.graph.dependence import POSITION_INPUT


def make_implicit(model: ir.Model) -> None:
    """Replace the input `position_ids` [B, S] by counting along the tokens of `input_ids`."""
    graph = model.graph
    positions = next(value for value in graph.inputs if value.name == POSITION_INPUT)
    tokens = next(value for value in graph.inputs if value.name == "input_ids")
    build, integer = Builder(graph[0], "positions", after=False), ir.DataType.INT64
    shape = build.op("Shape", tokens, dtype=integer, shape=[2])
    length = build.op("Squeeze", build.op("Shape", tokens, start=1, end=2, dtype=integer, shape=[1]), dtype=integer)
    zero, one = (build.constant(np.array(n, np.int64), f"int_{n}") for n in (0, 1))
    count = build.op("Range", zero, length, one, dtype=integer, shape=["sequence"])
    spread = build.op("Expand", count, shape, dtype=integer, shape=positions.shape)
    positions.replace_all_uses_with(spread)
    graph.inputs.remove(positions)
