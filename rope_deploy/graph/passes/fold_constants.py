"""Fold constants: what depends on constants alone is computed."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.optimizer import fold_constants_ir

from rope_deploy.graph.analysis.result_size import too_large
from rope_deploy.graph.passes.library_pass import refusing


class FoldConstantsPass(ir.passes.InPlacePass):
    """Replaces nodes whose inputs are constants by their results, from and to `limit` elements, by onnxscript.

    Requires nothing. Ensures that no result larger than `limit`, nor one too large to be computed, becomes a constant,
    and that no larger constant, which would be a weight, is read. Changes nothing where every node reads an input.
    """

    def __init__(self, limit: int):
        self._limit = limit

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        with refusing("Its constants cannot be folded"):
            limits = {"input_size_limit": self._limit, "output_size_limit": self._limit}
            folded = fold_constants_ir(model, **limits, should_fold=self._may_fold)
        return ir.passes.PassResult(model, folded.modified)

    def _may_fold(self, node: ir.Node) -> bool | None:
        """False for a node whose result is too large to be computed; None leaves the choice to onnxscript."""
        given = [value for value in node.inputs if value is not None]
        if any(value.const_value is None or value.const_value.size > self._limit for value in given):
            return None
        inputs = [None if value is None else value.const_value.numpy() for value in node.inputs]
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        return False if too_large(node.op_type, inputs, attributes) else None
