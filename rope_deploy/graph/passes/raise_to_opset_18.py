"""Raise to opset 18: the operators of an opset 17 graph that changed in 18 are rewritten."""

from __future__ import annotations

import onnx_ir as ir

from rope_deploy.graph.builder import constant
from rope_deploy.graph.passes.set_opset import REDUCTIONS, standard_nodes


class RaiseToOpset18Pass(ir.passes.InPlacePass):
    """Gives reductions their axes as an input and Split its number of outputs, and declares opset 18.

    Requires opset 17 or newer. Ensures that the graph declares opset 18 or newer. Changes nothing in a graph that does.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        if model.graph.opset_imports[""] >= 18:
            return ir.passes.PassResult(model, False)
        for node in standard_nodes(model):
            if node.op_type in REDUCTIONS and "axes" in node.attributes:
                axes = node.attributes.pop("axes").as_ints()
                tensor = ir.tensor(axes, dtype=ir.DataType.INT64)
                node.resize_inputs(2)
                name = f"axes_{'_'.join(map(str, axes))}"
                node.replace_input_with(1, constant(model.graph, tensor.numpy(), name))
            if node.op_type == "Split" and len(node.inputs) == 1:
                node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))
        model.graph.opset_imports[""] = 18
        return ir.passes.PassResult(model, True)
