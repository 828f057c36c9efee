"""Declare the opset a graph is written in, after rewriting the few operators that changed since."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.errors import UsageError
from rope_deploy.graph.builder import constant

OLDEST = 17
# Operators whose axes moved from an attribute to an input in opset 18.
# fmt: off
REDUCTIONS = frozenset({
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSumSquare",
})
# fmt: on


def require_known(opset: int) -> None:
    """Raise UsageError for an opset that is too old for what is written here, or newer than the onnx package."""
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise UsageError(f"Opset {opset} is not supported.", exists=f"Supported: {OLDEST} to {newest}.")


def set_opset(model: ir.Model, opset: int) -> None:
    """Rewrite `model` for `opset`. Raises UsageError naming what it does not have."""
    require_known(opset)
    for node in _standard(model):
        if opset < 18:
            _before_18(node)
        _drop_defaults(node, opset)
    if missing := [node for node in _standard(model) if not _fits(node, opset)]:
        names = ", ".join(sorted({node.op_type for node in missing}))
        raise UsageError(
            f"Opset {opset} has no {names} in the form that this model needs.",
            todo=f"Ask for a newer one: --opset {_oldest(missing, opset)}.",
        )
    model.graph.opset_imports[""] = opset
    for function in model.functions.values():
        function.opset_imports[""] = opset
    # Opset 23 came with IR version 11; older runtimes refuse a newer IR version than they know.
    model.ir_version = 11 if opset >= 23 else 10
    common.RemoveUnusedOpsetsPass()(model)


def bring_to_18(model: ir.Model) -> None:
    """Rewrite the operators of an opset 17 graph that changed in 18; later graphs stay as they are."""
    if model.graph.opset_imports[""] >= 18:
        return
    for node in _standard(model):
        if node.op_type in REDUCTIONS and "axes" in node.attributes:
            axes = node.attributes.pop("axes").as_ints()
            tensor = ir.tensor(axes, dtype=ir.DataType.INT64)
            node.resize_inputs(2)
            node.replace_input_with(1, constant(model.graph, tensor.numpy(), f"axes_{'_'.join(map(str, axes))}"))
        if node.op_type == "Split" and len(node.inputs) == 1:
            node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))
    model.graph.opset_imports[""] = 18


def oldest_fitting(model: ir.Model, start: int) -> int:
    """The first opset from `start` on that has every standard operator of `model`; `start` if none has."""
    return _oldest(_standard(model), start)


def _oldest(nodes: Sequence[ir.Node], start: int) -> int:
    newest = onnx.defs.onnx_opset_version()
    return next((v for v in range(start, newest + 1) if all(_fits(node, v) for node in nodes)), start)


def _standard(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph.all_nodes() if node.domain == ""]


def _before_18(node: ir.Node) -> None:
    if node.op_type in REDUCTIONS and len(node.inputs) > 1 and node.inputs[1] is not None:
        axes = node.inputs[1].const_value
        if axes is None:
            raise UsageError(f"{node.name}: {node.op_type} over axes computed at run time needs opset 18.")
        node.attributes["axes"] = ir.AttrInt64s("axes", axes.numpy().reshape(-1).tolist())
        node.resize_inputs(1)
        node.attributes.pop("noop_with_empty_axes", None)
    if node.op_type == "Split":
        node.attributes.pop("num_outputs", None)  # without sizes, Split already divides evenly


def _drop_defaults(node: ir.Node, opset: int) -> None:
    """Drop attributes that `opset` does not know yet and that only say what it does anyway."""
    for name in _unknown(node, opset):
        stated = onnx.defs.get_schema(node.op_type).attributes.get(name)
        default = (
            onnx.helper.get_attribute_value(stated.default_value) if stated and stated.default_value.name else None
        )
        value = node.attributes[name].value
        if (value.encode() if isinstance(value, str) else value) == default:
            del node.attributes[name]


def _fits(node: ir.Node, opset: int) -> bool:
    if not onnx.defs.has(node.op_type, max_inclusive_version=opset, domain=""):
        return False
    schema = onnx.defs.get_schema(node.op_type, max_inclusive_version=opset)
    return len(node.inputs) <= schema.max_input and not _unknown(node, opset)


def _unknown(node: ir.Node, opset: int) -> list[str]:
    if not onnx.defs.has(node.op_type, max_inclusive_version=opset, domain=""):
        return []
    known = onnx.defs.get_schema(node.op_type, max_inclusive_version=opset).attributes
    return [name for name in node.attributes if name not in known]
