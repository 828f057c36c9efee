"""Fuse RMS normalisation: the chain x / √(mean(x²) + ε) · weight becomes one RMSNormalization (opset 23).

onnxscript's fusion of the same chain is not used: it lies in a private module and also takes the casts around the chain
into the operator, so that half-precision graphs would change.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.graph.builder import Builder, produced_by, replace


@dataclass(frozen=True)
class _RmsNorm:
    """x [.., D] · weight [D] / sqrt(mean(x², last axis) + epsilon) = output."""

    x: ir.Value
    weight: ir.Value
    epsilon: float
    output: ir.Value


class FuseRmsNormalizationPass(ir.passes.InPlacePass):
    """Replaces every RMS normalisation of the last axis by the operator RMSNormalization.

    Requires opset 23, and the normalisation written as a division by a root (`DivideByRootPass`). Ensures the same
    weight and epsilon. Changes nothing where the weight is no constant of one axis, or anything else is computed.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        found = [norm for node in model.graph if (norm := _match(node)) is not None]
        for norm in found:
            build = Builder(norm.output.producer(), f"{norm.output.name}/norm")
            out = build.op(
                "RMSNormalization",
                norm.x,
                norm.weight,
                axis=-1,
                epsilon=norm.epsilon,
                dtype=norm.output.dtype,
                shape=norm.output.shape,
            )
            replace(norm.output, out)
        if found:
            common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(found))


def _match(node: ir.Node) -> _RmsNorm | None:
    """The normalisation that ends in `node`."""
    if node.op_type != "Mul":
        return None
    for one, other in ((0, 1), (1, 0)):
        quotient, weight = produced_by(node.inputs[one], "Div"), node.inputs[other]
        if quotient is None or weight.shape is None or len(weight.shape) != 1 or weight.const_value is None:
            continue
        x, root = quotient.inputs
        mean_plus = produced_by(getattr(produced_by(root, "Sqrt"), "inputs", [None])[0], "Add")
        if mean_plus is None:
            continue
        for a, b in ((0, 1), (1, 0)):
            mean, epsilon = produced_by(mean_plus.inputs[a], "ReduceMean"), mean_plus.inputs[b].const_value
            if mean is None or epsilon is None or epsilon.size != 1:
                continue
            square = produced_by(mean.inputs[0], "Pow") or produced_by(mean.inputs[0], "Mul")
            if square is not None and square.inputs[0] is x and _is_square(square) and _last_axis(mean):
                return _RmsNorm(x, weight, float(epsilon.numpy().item()), node.outputs[0])
    return None


def _is_square(node: ir.Node) -> bool:
    if node.op_type == "Mul":
        return node.inputs[0] is node.inputs[1]
    exponent = node.inputs[1].const_value
    return exponent is not None and exponent.size == 1 and float(exponent.numpy().item()) == 2.0


def _last_axis(mean: ir.Node) -> bool:
    axes = mean.inputs[1].const_value if len(mean.inputs) > 1 and mean.inputs[1] is not None else None
    return axes is not None and axes.numpy().reshape(-1).tolist() == [-1]
