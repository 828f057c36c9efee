"""Read an ONNX file that somebody else exported into the form that `raise_rotations` expects.

Functions are inlined, rotary operators written out, and the axes named as ours are (axis_names.py). What cannot be
understood is refused with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from rope_deploy.errors import UnmatchedRotation, UsageError
from rope_deploy.graph.analysis.dependence import POSITION_INPUT
from rope_deploy.graph.analysis.input_axes import TOKEN_INPUTS, axes_of
from rope_deploy.graph.io import read_model
from rope_deploy.graph.passes.sequences import find_shapes_to_rewrite, run, unpack_to_rewrite
from rope_deploy.graph.reading.axis_names import name_axes
from rope_deploy.graph.rotating_operators import rotates
from rope_deploy.options import OLDEST_OPSET

# Operators that mean something else from this opset on; models with rotations do not use them.
CHANGED = {"DFT": 20, "GridSample": 20, "GroupNormalization": 21}


@dataclass(frozen=True)
class ForeignFile:
    """A file as it is worked on. Its shapes are in our names and in part guessed: good enough to find rotations by.

    `declared` are the shapes of its inputs and outputs as the file states them, by name: they are written again.
    """

    model: ir.Model
    declared: Mapping[str, ir.Shape | None]


def read_foreign(path: Path, *, newest: int) -> ForeignFile:
    """The graph of `path`, cleaned, ready to be raised and written in opset `newest` or older.

    Raises UsageError for a file that is not ONNX, lacks its weights or has fixed axes; UnmatchedRotation for a
    rotation in a form that cannot be taken apart.
    """
    model = read_model(path)
    graph = model.graph
    for value in [value for value in graph.inputs if value.name in graph.initializers]:
        graph.inputs.remove(value)
    _refuse(model, path, newest)
    run(model, unpack_to_rewrite())
    declared = {value.name: value.shape for value in (*graph.inputs, *graph.outputs)}
    symbols = _name_inputs(graph, path)
    run(model, find_shapes_to_rewrite(symbols))
    return ForeignFile(model, declared)


def _refuse(model: ir.Model, path: Path, newest: int) -> None:
    opset = model.graph.opset_imports.get("", 0)
    if opset < OLDEST_OPSET:
        raise UsageError(
            f"{path} is written in opset {opset}.",
            exists=f"Opsets from {OLDEST_OPSET} on can be rewritten.",
            todo=f"Convert it first: onnx.version_converter.convert_version(model, {OLDEST_OPSET}).",
        )
    for node in model.graph.all_nodes():
        if node.graph is not model.graph and not isinstance(node.graph, ir.Function):
            raise UsageError(
                f"{path} has subgraphs (around {node.op_type} {node.name or ''}), so its rotations may run or not.",
                todo="Use a file without If and Loop: of Optimum's, model.onnx rather than a merged decoder.",
            )
        if why := _why_kept(node, model):
            raise UnmatchedRotation(
                f"{node.name} ({node.op_type}) {why}.",
                todo="Rewrite a file from before that fusion, or export again with `rope-deploy export`.",
            )
        if node.domain == "" and opset < CHANGED.get(node.op_type, 0) <= newest:
            raise UsageError(f"{node.name} ({node.op_type}) means something else in opset {newest}.")


def _why_kept(node: ir.Node, model: ir.Model) -> str:
    """Why a rotating operator cannot be written in standard operators, as the end of a sentence; "" if it can, or if
    `node` does not rotate."""
    operator = rotates(node)
    if operator is None or operator.expandable or node.op_identifier() in model.functions:
        return ""
    where = "rotates inside a fused attention" if operator.fused else "rotates in an operator without a body"
    return f"{where}, which is not taken apart"


def _name_inputs(graph: ir.Graph, path: Path) -> dict[str, str]:
    """`name_axes`, for a file that has the inputs and the free axes that rewriting needs."""
    inputs = {value.name: value for value in graph.inputs}
    tokens = next((inputs[name] for name in TOKEN_INPUTS if name in inputs), None)
    if POSITION_INPUT not in inputs or tokens is None:
        raise UnmatchedRotation(
            f"{path} has no input {POSITION_INPUT if tokens is not None else ' or '.join(TOKEN_INPUTS)}.",
            exists=f"Its inputs are {', '.join(list(inputs)[:6])}.",
            todo="Export the model with explicit position_ids.",
        )
    for name, value in inputs.items():
        fixed = [number for number in axes_of(value) if isinstance(value.shape[number], int)]
        if fixed:
            raise UsageError(
                f"{name} has a fixed axis: {value.shape}.",
                todo=f"Export the model with dynamic axes; axis {fixed[0]} of {name} must be free.",
            )
    return name_axes(graph)
