"""Set the opset that a graph is written in; and which opsets a graph can be written in."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.errors import UsageError
from rope_deploy.options import OLDEST_OPSET

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
    if not OLDEST_OPSET <= opset <= newest:
        raise UsageError(f"Opset {opset} is not supported.", exists=f"Supported: {OLDEST_OPSET} to {newest}.")


class SetOpsetPass(ir.passes.InPlacePass):
    """Declares `opset`, and the IR version that came with it, after rewriting the few operators that changed since.

    Requires a graph written for opset 18 or newer. Ensures that every standard operator is one of `opset`; raises
    UsageError naming those that it does not have. Changes nothing in a graph that is written for it already.
    """

    def __init__(self, opset: int):
        self._opset = opset

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        opset, modified = self._opset, False
        require_known(opset)
        for node in standard_nodes(model):
            if opset < 18:
                modified |= _before_18(node)
            modified |= _drop_defaults(node, opset)
        if missing := [node for node in standard_nodes(model) if not _fits(node, opset)]:
            names = ", ".join(sorted({node.op_type for node in missing}))
            raise UsageError(
                f"Opset {opset} has no {names} in the form that this model needs.",
                todo=f"Ask for a newer one: --opset {_oldest(missing, opset)}.",
            )
        for owner in (model.graph, *model.functions.values()):
            modified |= owner.opset_imports.get("") != opset
            owner.opset_imports[""] = opset
        # Opset 23 came with IR version 11; older runtimes refuse a newer IR version than they know.
        ir_version = 11 if opset >= 23 else 10
        modified |= model.ir_version != ir_version
        model.ir_version = ir_version
        unused = common.RemoveUnusedOpsetsPass()(model)
        return ir.passes.PassResult(model, modified or unused.modified)


def oldest_fitting(model: ir.Model, start: int) -> int:
    """The first opset from `start` on that has every standard operator of `model`; `start` if none has."""
    return _oldest(standard_nodes(model), start)


def _oldest(nodes: Sequence[ir.Node], start: int) -> int:
    newest = onnx.defs.onnx_opset_version()
    return next((v for v in range(start, newest + 1) if all(_fits(node, v) for node in nodes)), start)


def standard_nodes(model: ir.Model) -> list[ir.Node]:
    """The nodes of the graph and its subgraphs that are standard operators."""
    return [node for node in model.graph.all_nodes() if node.domain == ""]


def _before_18(node: ir.Node) -> bool:
    """Write `node` as before opset 18; whether it had to be changed. Raises UsageError where it cannot."""
    if node.op_type in REDUCTIONS and len(node.inputs) > 1 and node.inputs[1] is not None:
        axes = node.inputs[1].const_value
        if axes is None:
            raise UsageError(f"{node.name}: {node.op_type} over axes computed at run time needs opset 18.")
        node.attributes["axes"] = ir.AttrInt64s("axes", axes.numpy().reshape(-1).tolist())
        node.resize_inputs(1)
        node.attributes.pop("noop_with_empty_axes", None)
        return True
    # Without sizes, Split already divides evenly.
    return node.op_type == "Split" and node.attributes.pop("num_outputs", None) is not None


def _drop_defaults(node: ir.Node, opset: int) -> bool:
    """Drop attributes that `opset` does not know yet and that state what it does anyway; whether there were any."""
    dropped = False
    for name in _unknown(node, opset):
        stated = onnx.defs.get_schema(node.op_type).attributes.get(name)
        default = (
            onnx.helper.get_attribute_value(stated.default_value) if stated and stated.default_value.name else None
        )
        value = node.attributes[name].value
        if (value.encode() if isinstance(value, str) else value) == default:
            del node.attributes[name]
            dropped = True
    return dropped


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
