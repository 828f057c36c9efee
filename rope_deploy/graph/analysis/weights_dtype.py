"""The type of a graph's weights."""

from __future__ import annotations

import onnx_ir as ir

from rope_deploy.graph.analysis.evaluate import HALF


def weights_dtype(model: ir.Model) -> str:
    """numpy's name of the type of the matrices in `model`: the half type if there are several, "float32" if none."""
    found = {value.dtype for value in model.graph.initializers.values() if len(value.shape or ()) > 1}
    return next((name for dtype, name in HALF.items() if dtype in found), "float32")
