"""Split rotation matrices: a product with 2×2 matrices becomes a sum of two products, as in every other rotation.

Perception Encoders stack [[cos, −sin], [sin, cos]] for each pair, multiply the pair with it element by element, and add
up the last axis. A ReduceSum over an axis of two elements is one addition.
"""

from __future__ import annotations

import onnx_ir as ir

from rope_deploy.graph.analysis.data_movement import Marks
from rope_deploy.graph.analysis.dependence import Dependence, dependences
from rope_deploy.graph.analysis.fixed_length import has_fixed_rows
from rope_deploy.graph.builder import Builder, produced_by, replace

PAIR = 2


class SplitRotationMatricesPass(ir.passes.InPlacePass):
    """Replaces every sum over an axis of two elements of a product of constants and activations by an addition.

    Requires known shapes. Ensures a vector of [.., R] before and after the addition, as other rotations have it.
    Changes nothing in a graph that takes positions or whose calls differ in length: only towers write rotations so.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph, modified = model.graph, False
        if not has_fixed_rows(graph):
            return ir.passes.PassResult(model, modified)
        marks = dependences(graph, counting=False)
        for node in list(graph):
            product = produced_by(node.inputs[0], "Mul") if node.op_type == "ReduceSum" else None
            axis = _axis(node) if product is not None else None
            if axis is not None and _of_constants(product, marks):
                modified |= _split(node, product, axis)
        return ir.passes.PassResult(model, modified)


def _split(node: ir.Node, product: ir.Node, axis: int) -> bool:
    """Replace `node`, the sum of `product` over `axis`; False where its result is no vector of pairs [.., R/2, 2]."""
    total, build = node.outputs[0], Builder(node, f"{node.name}/pair")
    *outer, pairs, rows = total.shape
    if rows != PAIR or not isinstance(pairs, int):
        return False
    terms, whole = [], [*outer, pairs * PAIR]
    for number in range(PAIR):
        factors = [_merged(build, _element(build, value, axis, number)) for value in product.inputs]
        terms.append(build.op("Mul", *factors, dtype=total.dtype, shape=whole))
    flat = build.op("Add", *terms, dtype=total.dtype, shape=whole)
    as_pairs = build.ints([*(0 for _ in outer), pairs, PAIR])
    replace(total, build.op("Reshape", flat, as_pairs, dtype=total.dtype, shape=total.shape))
    return True


def _axis(node: ir.Node) -> int | None:
    """The axis of two elements that `node` sums over and drops, counted from the end; None for any other sum."""
    keeps = node.attributes["keepdims"].as_int() if "keepdims" in node.attributes else 1
    axes = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
    shape = node.inputs[0].shape
    if keeps or axes is None or axes.size != 1 or shape is None:
        return None
    axis = int(axes.numpy().reshape(-1)[0])
    axis = axis - len(shape) if axis >= 0 else axis
    return axis if shape[axis] == PAIR else None


def _of_constants(product: ir.Node, marks: Marks) -> bool:
    """Whether one factor of `product` depends on activations and the other on nothing."""
    kinds = [marks.get(value, Dependence.NOTHING) for value in product.inputs]
    known = all(value.shape is not None for value in product.inputs)
    return known and Dependence.NOTHING in kinds and Dependence.ACTIVATION in kinds


def _merged(build: Builder, value: ir.Value) -> ir.Value:
    """`value` [.., R/2, 2], or [.., R/2, 1] that is broadcast to it, as [.., R]."""
    *outer, pairs, rows = value.shape
    if rows != PAIR:
        ends = build.ints([*(1 for _ in (*outer, pairs)), PAIR])
        value = build.op("Expand", value, ends, dtype=value.dtype, shape=[*outer, pairs, PAIR])
    whole = [*(0 for _ in outer), pairs * PAIR]
    return build.op("Reshape", value, build.ints(whole), dtype=value.dtype, shape=[*outer, pairs * PAIR])


def _element(build: Builder, value: ir.Value, axis: int, number: int) -> ir.Value:
    """Element `number` of `value` along `axis`, or its only one; itself where it has no such axis."""
    shape = list(value.shape)
    if len(shape) < -axis:
        return value
    size = shape.pop(axis)
    index = build.ints([number if size == PAIR else 0])
    one = build.op("Gather", value, index, axis=axis, dtype=value.dtype)
    return build.op("Squeeze", one, build.ints([axis]), dtype=value.dtype, shape=shape)
