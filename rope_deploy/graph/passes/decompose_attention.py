"""Decompose attention: `Attention` (opset 23) is written in operators that every opset has.

    softmax(q · scale · kᵀ + bias) · v     per group of query heads that share one key head

Grouped heads are not repeated: the queries of a group become rows of one matrix product with their key, so the cache
is read once and never copied. Scores are masked by adding half the type's lowest
finite number, not −∞: a row with nothing to attend to (padding) stays finite, and no sum overflows.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.graph.builder import Builder, replace


def is_plain_attention(node: ir.Node) -> bool:
    """Whether `node` is an `Attention` as the tracer makes it: q, k and v of 4 axes, at most a mask shared by all heads
    and a scale."""
    if node.op_type != "Attention" or node.domain != "" or any(v.uses() for v in node.outputs[1:]):
        return False
    extras = {name for name, attribute in node.attributes.items() if attribute.value and name != "scale"}
    if len(node.inputs) not in (3, 4) or extras:
        return False
    shapes = [value.shape if value is not None else None for value in node.inputs]
    return all(shape is not None and len(shape) == 4 for shape in shapes) and all(mask[1] == 1 for mask in shapes[3:])


class DecomposeAttentionPass(ir.passes.InPlacePass):
    """Replaces every plain `Attention` node (see `is_plain_attention`) by standard operators of any opset.

    Requires known types, numbers of heads and head sizes. Ensures that rows with nothing to attend to stay finite.
    Changes nothing in a graph without such nodes; an `Attention` of any other form stays, and its opset is then needed.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        bias = _Bias()
        found = [node for node in model.graph if is_plain_attention(node)]
        for node in found:
            _decompose(node, bias)
        if found:
            common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(found))


class _Bias:
    """Additive masks, [B, 1, S, T], made once for each boolean mask and type."""

    def __init__(self):
        self._made: dict[tuple, ir.Value] = {}

    def of(self, mask: ir.Value, dtype: ir.DataType, user: ir.Node) -> ir.Value:
        """`mask` as numbers to add to scores; new nodes are inserted before `user`."""
        if mask.dtype != ir.DataType.BOOL:
            return mask
        key = (mask, dtype)
        if key not in self._made:
            build = Builder(user, f"{mask.name}/bias/{dtype.name.lower()}", after=False)
            array, name = np.dtype(dtype.numpy()), dtype.name.lower()
            zero = build.constant(np.array(0, array), f"zero_{name}")
            low = build.constant(np.array(float(ml_dtypes.finfo(array).min) / 2, array), f"masked_{name}")
            self._made[key] = build.op("Where", mask, zero, low, dtype=dtype, shape=mask.shape)
        return self._made[key]


def _decompose(node: ir.Node, bias: _Bias) -> None:
    q, k, v = node.inputs[:3]
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    heads, groups, head_dim, dtype = q.shape[1], k.shape[1], q.shape[3], q.dtype
    batch, sequence, total = q.shape[0], q.shape[2], k.shape[2]
    scale = node.attributes["scale"].as_float() if "scale" in node.attributes else head_dim**-0.5
    build = Builder(node, node.name or node.outputs[0].name)
    factor = build.constant(np.array(scale, dtype.numpy()), f"scale_{scale:.9g}_{dtype.name.lower()}")
    rows = build.op("Mul", q, factor, dtype=dtype, shape=q.shape)
    if heads != groups:
        # [B, N, S, H] -> [B, G, N/G · S, H]: the rows of a group follow one another, without moving a byte
        shape = [batch, groups, None, head_dim]
        rows = build.op("Reshape", rows, build.ints([0, groups, -1, head_dim]), dtype=dtype, shape=shape)
    keys = build.op("Transpose", k, perm=[0, 1, 3, 2], dtype=dtype, shape=[batch, groups, head_dim, total])
    scores = build.op("MatMul", rows, keys, dtype=dtype)
    if mask is not None:
        if heads != groups:
            # [B, G, N/G · S, T] -> [B, G, N/G, S, T]; the mask [B, 1, S, T] broadcasts as [B, 1, 1, S, T]
            grouped = build.op(
                "Concat", build.ints([0, 0, heads // groups]), _sizes(build, q, 2), build.ints([-1]), axis=0
            )
            scores = build.op("Reshape", scores, grouped, dtype=dtype)
            wide = build.op("Unsqueeze", bias.of(mask, dtype, node), build.ints([1]), dtype=dtype)
            scores = build.op("Add", scores, wide, dtype=dtype)
        else:
            scores = build.op(
                "Add", scores, bias.of(mask, dtype, node), dtype=dtype, shape=[batch, heads, sequence, total]
            )
    weights = build.op("Softmax", scores, axis=-1, dtype=dtype)
    if heads != groups and mask is not None:
        below = build.op("Concat", build.ints([0, groups, -1]), _sizes(build, k, 2), axis=0)
        weights = build.op("Reshape", weights, below, dtype=dtype)
    out = build.op("MatMul", weights, v, dtype=dtype)
    if heads != groups:
        again = build.op("Concat", build.ints([0, heads]), _sizes(build, q, 2), build.ints([v.shape[3]]), axis=0)
        out = build.op("Reshape", out, again, dtype=dtype)
    out.shape = node.outputs[0].shape
    replace(node.outputs[0], out)


def _sizes(build: Builder, value: ir.Value, axis: int) -> ir.Value:
    """One entry of a shape, [1]. Equal ones are merged when the graph is cleaned."""
    return build.op("Shape", value, start=axis, end=axis + 1, dtype=ir.DataType.INT64, shape=[1])
