"""Divide by roots: x · (1 / √v) becomes x / √v.

Models write RMS normalisation as x · rsqrt(mean(x²) + ε). Traced, that is a Reciprocal of a Sqrt, which neither ONNX
Runtime nor TensorRT fuses; the same as a division is fused by both.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.graph.builder import Builder, produced_by, replace


class DivideByRootPass(ir.passes.InPlacePass):
    """Replaces every product with the Reciprocal of a Sqrt by a division by that Sqrt.

    Requires nothing. Ensures that results change by a rounding at most, and that reciprocals nobody reads are gone.
    Changes nothing in a graph without such products.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            if (parts := _factor_and_root(node)) is not None:
                out = node.outputs[0]
                quotient = Builder(node, f"{node.name}/div").op("Div", *parts, dtype=out.dtype, shape=out.shape)
                replace(out, quotient)
                modified = True
        if modified:
            common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified)


def _factor_and_root(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """x and √v of a product x · (1 / √v), in either order; None for any other node."""
    if node.op_type != "Mul":
        return None
    for one, other in ((0, 1), (1, 0)):
        reciprocal = produced_by(node.inputs[one], "Reciprocal")
        if reciprocal is not None and produced_by(reciprocal.inputs[0], "Sqrt") is not None:
            return node.inputs[other], reciprocal.inputs[0]
    return None
