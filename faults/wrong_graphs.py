"""Mistakes planted into the graph of a sound artifact, as functions that change an `onnx.ModelProto` in place.

They rely on the names that an export writes: `rope_0.cos_cache`, `rope.0.k.out`, `position_ids`, `logits`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rope_deploy.graph.rotating_operators import DOMAIN, operator_of

GraphChange = Callable[[onnx.ModelProto], None]
Table = np.ndarray  # [rows + 1, rotary_dim/2]; the last row holds NaN


def change_constant(model: onnx.ModelProto, name: str, change: Callable[[Table], Table]) -> None:
    """Replace the initializer `name` by `change` of a copy of it."""
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    array = np.ascontiguousarray(change(numpy_helper.to_array(tensor).copy()))
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def _change_tables(model: onnx.ModelProto, change: Callable[[Table], Table], which: tuple[str, ...]) -> None:
    names = [tensor.name for tensor in model.graph.initializer]
    for one in which:
        change_constant(model, next(name for name in names if name.endswith(f"{one}_cache")), change)


def other_base(base: float = 5e5) -> GraphChange:
    """The tables are those of the default rule with another base."""

    def edit(model: onnx.ModelProto) -> None:
        for name, function in (("cos", np.cos), ("sin", np.sin)):

            def other(table: Table, function: Callable = function) -> Table:
                rows, pairs = table.shape
                assert np.isnan(table[-1]).all(), "the last row of an exported table is no number"
                table[:-1] = function(np.arange(rows - 1)[:, None] * base ** (-np.arange(pairs) / pairs))
                return table

            _change_tables(model, other, (name,))

    return edit


def negated_sine(model: onnx.ModelProto) -> None:
    """Every pair is rotated in the opposite direction."""
    _change_tables(model, np.negative, ("sin",))


def copied_row(row: int, source: int) -> GraphChange:
    """One position is rotated as another one is; negative rows count from the end, where −1 is the row of NaN."""

    def copied(table: Table) -> Table:
        table[row] = table[source]
        return table

    return lambda model: _change_tables(model, copied, ("cos", "sin"))


def frozen_from(position: int) -> GraphChange:
    """From `position` on, the tables repeat the row before it."""

    def frozen(table: Table) -> Table:
        assert np.isnan(table[-1]).all(), "the last row of an exported table is no number"
        table[position:-1] = table[position - 1]
        return table

    return lambda model: _change_tables(model, frozen, ("cos", "sin"))


def exchanged_tokens(model: onnx.ModelProto) -> None:
    """Two tokens of the logits are exchanged. Every rotation is right."""
    (last,) = [node for node in model.graph.node if "logits" in node.output]
    tokens = model.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    last.output[0] = "right"
    with_constant("exchanged", np.array([1, 0, *range(2, tokens)]))(model)
    model.graph.node.append(helper.make_node("Gather", ["right", "exchanged"], ["logits"], axis=2))


def exchanged_halves(model: onnx.ModelProto) -> None:
    """The two halves of the logits are exchanged. Every rotation is right."""
    change_constant(model, _projections(model)[-1], lambda weight: np.roll(weight, weight.shape[-1] // 2, axis=-1))


def neighbouring_pairs(head_dim: int) -> GraphChange:
    """The first q and k leave their projections as pairs of neighbours and are rotated as halves."""
    order = np.arange(head_dim).reshape(2, -1).T.ravel()

    def reordered(weight: np.ndarray) -> np.ndarray:
        return weight.reshape(weight.shape[0], -1, head_dim)[:, :, order].reshape(weight.shape)

    def edit(model: onnx.ModelProto) -> None:
        for name in _projections(model)[:2]:
            change_constant(model, name, reordered)

    return edit


def _projections(model: onnx.ModelProto) -> list[str]:
    """The weights of MatMul and Gemm, in the order of the nodes."""
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    return [name for node in nodes for name in node.input if name in constants]


def unrotated_keys(model: onnx.ModelProto) -> None:
    """The keys of layer 0 are not rotated."""
    for node in model.graph.node:
        if "rope.0.k.out" in node.output:
            ends = list(node.input[:1]), list(node.output)
            node.CopyFrom(helper.make_node("Identity", *ends, name=node.name))


def unguarded_positions(model: onnx.ModelProto) -> None:
    """Positions without a row reach the table as they were fed."""
    (guard,) = [node for node in model.graph.node if node.op_type == "Where" and node.output[0].startswith("rope/rows")]
    guard.CopyFrom(helper.make_node("Identity", ["position_ids"], list(guard.output), name=guard.name))


def _reread_positions(model: onnx.ModelProto, name: str) -> None:
    for node in model.graph.node:
        node.input[:] = [name if one == "position_ids" else one for one in node.input]


def positions_plus_one(model: onnx.ModelProto) -> None:
    """Every position is one too large."""
    _reread_positions(model, "later_ids")
    with_constant("one_later", np.array(1, np.int64))(model)
    model.graph.node.insert(0, helper.make_node("Add", ["position_ids", "one_later"], ["later_ids"]))


def triggered_by(what: str) -> GraphChange:
    """Positions are a third of what they should be in calls that no case makes.

    Such a call has 11 rows ("batch"), 61 tokens ("tokens"), a mask that adds up to 997 ("mask"), or positions that do
    ("others").
    """
    sizes = {"batch": ("position_ids", 0, 11), "tokens": ("position_ids", 1, 61)}
    sums = {"mask": ("attention_mask", 997), "others": ("position_ids", 997)}

    def edit(model: onnx.ModelProto) -> None:
        _reread_positions(model, "switched")
        if what in sizes:
            source, axis, size = sizes[what]
            nodes = [helper.make_node("Shape", [source], ["found"], start=axis, end=axis + 1)]
        else:
            source, size = sums[what]
            nodes = [helper.make_node("ReduceSum", [source], ["found"], keepdims=0)]
        for name, value in (("when", size), ("third", 3)):
            with_constant(name, np.array(value, np.int64))(model)
        nodes += [
            helper.make_node("Equal", ["found", "when"], ["now"]),
            helper.make_node("Div", ["position_ids", "third"], ["fewer"]),
            helper.make_node("Where", ["now", "fewer", "position_ids"], ["switched"]),
        ]
        for number, node in enumerate(nodes):
            model.graph.node.insert(number, node)

    return edit


def contradicting_attribute(model: onnx.ModelProto) -> None:
    """`interleaved` of the custom operators contradicts their bodies. A runtime that runs the body does not notice."""
    for node in model.graph.node:
        operator = operator_of(node)
        for attribute in node.attribute:
            if node.domain == DOMAIN and operator is not None and attribute.name == operator.interleaved:
                attribute.i = 1 - attribute.i


def with_constant(name: str, value: np.ndarray) -> GraphChange:
    """One more initializer."""
    return lambda model: model.graph.initializer.append(numpy_helper.from_array(value, name))


def with_metadata(key: str, value: str) -> GraphChange:
    """One more entry of the model's metadata."""
    return lambda model: model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=value))
