"""RMS normalisation, spelled so that every runtime sees it.

Models write x · rsqrt(mean(x²) + ε). Traced, that is a Reciprocal of a Sqrt, which neither ONNX Runtime nor
TensorRT fuses; the same thing as a division is fused by both. At opset 23 the whole chain becomes
RMSNormalization.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from rope_deploy.graph.builder import Builder, produced_by, replace
from rope_deploy.graph.passes.simplify import prune


@dataclass(frozen=True)
class RmsNorm:
    """x [.., D] · weight [D] / sqrt(mean(x², last axis) + epsilon) = output."""

    x: ir.Value
    weight: ir.Value
    epsilon: float
    output: ir.Value


def divide_by_root(model: ir.Model) -> int:
    """Rewrite every x · (1 / sqrt(v)) as x / sqrt(v); returns how many there were."""
    count = 0
    for node in list(model.graph):
        if node.op_type != "Mul":
            continue
        for one, other in ((0, 1), (1, 0)):
            reciprocal = produced_by(node.inputs[one], "Reciprocal")
            if reciprocal is not None and produced_by(reciprocal.inputs[0], "Sqrt") is not None:
                out = node.outputs[0]
                build = Builder(node, f"{node.name}/div")
                quotient = build.op("Div", node.inputs[other], reciprocal.inputs[0], dtype=out.dtype, shape=out.shape)
                replace(out, quotient)
                count += 1
                break
    prune(model)
    return count


def use_operator(model: ir.Model) -> int:
    """Replace every RMS normalisation written with a division by RMSNormalization; returns how many there were."""
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
    prune(model)
    return len(found)


def _match(node: ir.Node) -> RmsNorm | None:
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
                return RmsNorm(x, weight, float(epsilon.numpy().item()), node.outputs[0])
    return None


def _is_square(node: ir.Node) -> bool:
    if node.op_type == "Mul":
        return node.inputs[0] is node.inputs[1]
    exponent = node.inputs[1].const_value
    return exponent is not None and exponent.size == 1 and float(exponent.numpy().item()) == 2.0


def _last_axis(mean: ir.Node) -> bool:
    axes = mean.inputs[1].const_value if len(mean.inputs) > 1 and mean.inputs[1] is not None else None
    return axes is not None and axes.numpy().reshape(-1).tolist() == [-1]
