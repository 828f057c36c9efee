"""Expand rotary operators: RotaryEmbedding, the standard one and ONNX Runtime's, in standard operators."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.errors import UnmatchedRotation
from rope_deploy.graph.builder import Builder, replace
from rope_deploy.graph.head_layout import split
from rope_deploy.graph.passes.library_pass import infer_shapes
from rope_deploy.graph.rotating_operators import integer, operator_of
from rope_deploy.graph.standard_rotation import full_width, rotate


@dataclass(frozen=True)
class _Operator:
    """What a rotary operator does. `rows` is None where cos and sin are inputs of [B, S, R/2]."""

    x: ir.Value
    cos: ir.Value
    sin: ir.Value
    rows: ir.Value | None
    heads: int
    head_dim: int
    rotary_dim: int
    interleaved: bool

    @classmethod
    def of(cls, node: ir.Node) -> _Operator:
        """Raises UnmatchedRotation for a form that cannot be written in standard operators."""
        read = {name: attribute.value for name, attribute in node.attributes.items()}
        if read.get("scale", 1.0) != 1.0 or read.get("is_packed_batching"):
            raise _refusal(node, "it scales or packs its input")
        operator, inputs = operator_of(node), [*node.inputs, None, None]
        x, cos, sin, rows = (inputs[number] for number in (*operator.x, operator.cos, operator.sin, operator.rows))
        if rows is not None and (rows.shape is None or len(rows.shape) != 2):
            raise _refusal(node, "its positions are not [batch, sequence]")
        width = cos.shape[-1] if cos.shape is not None else None
        heads = x.shape[1] if len(x.shape) == 4 else read.get("num_heads", 0)
        if not heads and isinstance(width, int):
            heads = x.shape[2] // (2 * width)
        if not isinstance(heads, int) or not heads or not isinstance(x.shape[-1], int):
            raise _refusal(node, "its number of heads is unknown")
        head_dim = x.shape[-1] if len(x.shape) == 4 else x.shape[-1] // heads
        rotary_dim = integer(node, operator.rotary_dim) or head_dim
        return cls(x, cos, sin, rows, heads, head_dim, rotary_dim, bool(integer(node, operator.interleaved)))


class ExpandRotaryOperatorsPass(ir.passes.InPlacePass):
    """Replaces every rotary operator by standard operators, so that it is raised like any other rotation.

    Knows RotaryEmbedding (opset 23) and com.microsoft.RotaryEmbedding; our own operators are functions, and inlining
    them does the same. Requires named axes. Ensures that none of the two operators is left and that shapes are
    inferred; raises UnmatchedRotation for a form that it does not know. Changes nothing but shapes without them.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph, modified = model.graph, False
        while waiting := [node for node in graph if _is_expandable(node)]:
            # Shapes end at ONNX Runtime's operators, so those of the next layer are known once this one is expanded.
            infer_shapes()(model)
            ready = [node for node in waiting if _rank(node.inputs[0]) in (3, 4)]
            if not ready:
                raise _refusal(waiting[0], "the shape of its input is unknown")
            for node in ready:
                _expand(node)
                graph.remove(node, safe=True)
            modified = True
        removed, inferred = common.RemoveUnusedNodesPass()(model), infer_shapes()(model)
        return ir.passes.PassResult(model, modified or removed.modified or inferred.modified)


def _is_expandable(node: ir.Node) -> bool:
    operator = operator_of(node)
    return operator is not None and operator.expandable


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else len(value.shape)


def _expand(node: ir.Node) -> None:
    found = _Operator.of(node)
    build = Builder(node, f"{node.name or node.outputs[0].name}/expanded")
    x, cos, sin, dtype = found.x, found.cos, found.sin, found.x.dtype
    if found.rows is not None:
        cos, sin = (build.op("Gather", cache, found.rows, axis=0, dtype=dtype) for cache in (cos, sin))
    flat = len(x.shape) == 3
    if flat:
        x = split(build, x, found.heads, found.head_dim)
    c, s = full_width(build, cos, sin, 2 if flat else 1, found.interleaved)
    y = rotate(build, x, c, s, found.head_dim, found.rotary_dim, found.interleaved)
    if flat:
        whole = build.ints([0, 0, found.heads * found.head_dim])
        y = build.op("Reshape", y, whole, dtype=dtype, shape=found.x.shape)
    replace(node.outputs[0], y)


def _refusal(node: ir.Node, reason: str) -> UnmatchedRotation:
    return UnmatchedRotation(
        f"{node.name or node.outputs[0].name} ({operator_of(node).qualified_name}) cannot be rewritten: {reason}.",
        todo="Export the model again with `rope-deploy export`.",
    )
