"""Count heads: a tensor of heads made from one of known width has a known number of them."""

from __future__ import annotations

import onnx_ir as ir

from rope_deploy.graph.passes.library_pass import infer_shapes


class CountHeadsPass(ir.passes.InPlacePass):
    """States the number of heads where [B, S, width] is reshaped to [B, S, −1, head_dim].

    Requires inferred shapes. Ensures that the shapes that follow from it are inferred too. Changes nothing where all
    numbers of heads are known.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in model.graph:
            if node.op_type == "Reshape" and (shape := _with_heads(node)) is not None:
                node.outputs[0].shape = shape
                modified = True
        if modified:
            infer_shapes()(model)
        return ir.passes.PassResult(model, modified)


def _with_heads(node: ir.Node) -> ir.Shape | None:
    """The shape of the result of a Reshape whose number of heads is unknown and follows from its input."""
    before, after = node.inputs[0].shape, node.outputs[0].shape
    if before is None or after is None or (len(before), len(after)) != (3, 4) or isinstance(after[2], int):
        return None
    width, head_dim = before[2], after[3]
    if not isinstance(width, int) or not isinstance(head_dim, int) or width % head_dim:
        return None
    return ir.Shape([before[0], before[1], width // head_dim, head_dim])
