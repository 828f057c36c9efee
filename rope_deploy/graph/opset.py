"""Declare the opset a graph is written in, after rewriting the few operators that changed since."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.errors import UsageError

OLDEST = 17
# Operators whose axes moved from an attribute to an input in opset 18.
REDUCTIONS = frozenset(
    "ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum".split()
)


def set_opset(model: ir.Model, opset: int) -> None:
    """Rewrite `model` for `opset`. Raises UsageError naming the operators that it does not have."""
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise UsageError(f"Opset {opset} is not supported.", exists=f"Supported: {OLDEST} to {newest}.")
    if opset < 18:
        for node in list(model.graph):
            _before_18(node)
    missing = sorted({n.op_type for n in model.graph.all_nodes() if n.domain == "" and not _exists(n.op_type, opset)})
    if missing:
        raise UsageError(
            f"Opset {opset} has no {', '.join(missing)}, which this model needs.",
            todo=f"Ask for a newer one: --opset {_needed(missing)}.",
        )
    model.graph.opset_imports[""] = opset
    for function in model.functions.values():
        function.opset_imports[""] = opset
    # Opset 23 came with IR version 11; older runtimes refuse a newer IR version than they know.
    model.ir_version = 11 if opset >= 23 else 10
    common.RemoveUnusedOpsetsPass()(model)


def _before_18(node: ir.Node) -> None:
    if node.domain != "":
        return
    if node.op_type in REDUCTIONS and len(node.inputs) > 1 and node.inputs[1] is not None:
        axes = node.inputs[1].const_value
        if axes is None:
            raise UsageError(f"{node.name}: {node.op_type} over axes computed at run time needs opset 18.")
        node.attributes["axes"] = ir.AttrInt64s("axes", axes.numpy().reshape(-1).tolist())
        node.resize_inputs(1)
        node.attributes.pop("noop_with_empty_axes", None)
    if node.op_type == "Split":
        node.attributes.pop("num_outputs", None)  # without sizes, Split already divides evenly


def _exists(op_type: str, opset: int) -> bool:
    return onnx.defs.has(op_type, max_inclusive_version=opset, domain="")


def _needed(op_types: list[str]) -> int:
    newest = onnx.defs.onnx_opset_version()
    return next(v for v in range(OLDEST, newest + 1) if all(_exists(op_type, v) for op_type in op_types))
