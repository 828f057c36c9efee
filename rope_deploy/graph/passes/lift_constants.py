"""Lift constants: every Constant node becomes an initializer."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.graph.passes.library_pass import refusing


class LiftConstantsPass(ir.passes.InPlacePass):
    """Makes initializers of Constant nodes, and string tensors of initializers that hold strings otherwise.

    Requires nothing. Ensures that only a Constant that is an output of the graph is left, and that all strings are
    `ir.StringTensor`, as onnx-ir reads them from a file. Changes nothing in a graph without Constant nodes and without
    other tensors of strings.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        with refusing("Its constants cannot be read"):
            lift = common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
            modified = lift(model).modified
            for value in model.graph.initializers.values():
                tensor = value.const_value
                if (
                    tensor is not None
                    and tensor.dtype == ir.DataType.STRING
                    and not isinstance(tensor, ir.StringTensor)
                ):
                    value.const_value = ir.StringTensor(tensor.numpy(), shape=ir.Shape(tensor.shape), name=tensor.name)
                    modified = True
        return ir.passes.PassResult(model, modified)
