"""The shapes that are written into a file: those that inference proves, and no others.

A runtime believes them. ONNX Runtime gives two tensors one buffer if their shapes have the same numbers and names, so
an axis with a wrong name ends every call: "Shape mismatch attempting to re-use buffer".
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.passes import common


def proven_shapes(model: ir.Model, declared: Mapping[str, ir.Shape | None]) -> None:
    """Forget every shape of `model` but those of constants, take those of inputs and outputs from `declared`, by name,
    and infer the rest."""
    graph = model.graph
    for node in (*model.graph.all_nodes(), *(node for f in model.functions.values() for node in f.all_nodes())):
        for value in node.outputs:
            value.shape = None
    for value in (*graph.inputs, *graph.outputs):
        value.shape = declared.get(value.name)
    common.ShapeInferencePass()(model)
