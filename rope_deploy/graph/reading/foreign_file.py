"""Read an ONNX file that somebody else exported into the form that `raise_rotations` expects.

Functions are inlined, rotary operators written out, and the axes named as ours are, judged by the inputs: those of
input_ids are batch and sequence, the cache's third axis is past. What cannot be understood is refused with a reason.
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
from rope_deploy.graph.passes import library_pass
from rope_deploy.graph.passes.sequences import after_axes_are_named, for_foreign_file, run, simplify
from rope_deploy.graph.passes.set_opset import OLDEST

# Operators that mean something else from this opset on; models with rotations do not use them.
CHANGED = {"DFT": 20, "GridSample": 20, "GroupNormalization": 21}


@dataclass(frozen=True)
class Foreign:
    """A file as it is worked on. Its shapes are in our names and in part guessed: good enough to find rotations by.

    `declared` are those of its inputs and outputs in its own words, by name, as they are written again.
    """

    model: ir.Model
    declared: Mapping[str, ir.Shape | None]


def read_foreign(path: Path, *, newest: int) -> Foreign:
    """The graph of `path`, cleaned, ready to be raised and written in opset `newest` or older.

    Raises UsageError for a file that is not ONNX, lacks its weights or has fixed axes; UnmatchedRotation for a
    rotation in a form that cannot be taken apart.
    """
    model = read_model(path)
    graph = model.graph
    for value in [value for value in graph.inputs if value.name in graph.initializers]:
        graph.inputs.remove(value)
    _refuse(model, path, newest)
    run(model, for_foreign_file())
    declared = {value.name: value.shape for value in (*graph.inputs, *graph.outputs)}
    symbols = _name_inputs(graph, path)
    rename(graph, symbols)
    run(model, after_axes_are_named())
    infer_shapes(model, symbols)
    return Foreign(model, declared)


def infer_shapes(model: ir.Model, symbols: dict[str, str]) -> None:
    """Clean the graph and find the shapes of its values, in our names; `symbols` as `name_axes` returns them."""
    graph = model.graph
    run(model, (*simplify(), library_pass.infer_shapes()))
    if _count_heads(graph):
        library_pass.infer_shapes()(model)
    rename(graph, symbols)
    _name_heads(graph)


def _refuse(model: ir.Model, path: Path, newest: int) -> None:
    opset = model.graph.opset_imports.get("", 0)
    if opset < OLDEST:
        raise UsageError(
            f"{path} is written in opset {opset}.",
            exists=f"Opsets from {OLDEST} on can be rewritten.",
            todo=f"Convert it first: onnx.version_converter.convert_version(model, {OLDEST}).",
        )
    for node in model.graph.all_nodes():
        if node.graph is not model.graph and not isinstance(node.graph, ir.Function):
            raise UsageError(
                f"{path} has subgraphs (around {node.op_type} {node.name or ''}), so its rotations may run or not.",
                todo="Use a file without If and Loop: of Optimum's, model.onnx rather than a merged decoder.",
            )
        if node.domain == "com.microsoft" and "do_rotary" in node.attributes and node.attributes["do_rotary"].value:
            raise UnmatchedRotation(
                f"{node.name} ({node.op_type}) rotates inside a fused attention, which is not taken apart.",
                todo="Rewrite a file from before that fusion, or export again with `rope-deploy export`.",
            )
        if node.domain == "" and opset < CHANGED.get(node.op_type, 0) <= newest:
            raise UsageError(f"{node.name} ({node.op_type}) means something else in opset {newest}.")


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


def name_axes(graph: ir.Graph) -> dict[str, str]:
    """Give the free axes of the inputs our names; returns what each of the file's own names stands for."""
    inputs = {value.name: value for value in graph.inputs}
    symbols: dict[str, str] = {}
    for value in inputs.values():
        axes = {n: axis for n, axis in axes_of(value).items() if not isinstance(value.shape[n], int)}
        for number, axis in axes.items():
            symbols.setdefault(str(value.shape[number].value), axis)
        value.shape = None if value.shape is None else ir.Shape([axes.get(n, dim) for n, dim in enumerate(value.shape)])
    mask = inputs.get("attention_mask")
    if mask is not None and mask.shape is not None and not any("past" in name for name in inputs):
        sizes = zip(mask.shape, ("batch", "sequence"), strict=False)
        mask.shape = ir.Shape([dim if isinstance(dim, int) else name for dim, name in sizes])
    return symbols


def rename(graph: ir.Graph, symbols: dict[str, str]) -> None:
    """Give every value our axis names; past + sequence in either order is `total`."""
    for node in graph:
        for value in node.outputs:
            if value.shape is not None:
                value.shape = ir.Shape([_renamed(dim, symbols) for dim in value.shape])


def _renamed(dim: int | ir.SymbolicDim, symbols: dict[str, str]) -> int | str | None:
    if isinstance(dim, int) or dim.value is None:
        return dim if isinstance(dim, int) else None
    if (whole := str(dim.value)) in symbols:
        return symbols[whole]
    words = [symbols.get(word, word) for word in whole.split()]
    return "total" if sorted(words) == ["+", "past", "sequence"] else " ".join(words)


def _count_heads(graph: ir.Graph) -> int:
    """[B, S, width] reshaped to [B, S, -1, head_dim]: state the number of heads; returns how often it was missing."""
    count = 0
    for node in graph:
        if node.op_type != "Reshape":
            continue
        before, after = node.inputs[0].shape, node.outputs[0].shape
        if before is None or after is None or (len(before), len(after)) != (3, 4) or isinstance(after[2], int):
            continue
        width, head_dim = before[2], after[3]
        if isinstance(width, int) and isinstance(head_dim, int) and width % head_dim == 0:
            node.outputs[0].shape = ir.Shape([before[0], before[1], width // head_dim, head_dim])
            count += 1
    return count


def _name_heads(graph: ir.Graph) -> None:
    """Name the axes that shape inference lost of tensors [?, heads, ?, head_dim] and [?, ?, heads, head_dim].

    A wrong guess does no harm here: a rotation is followed with these sizes, and tensors that do not fit stop it. It
    must not be written: a runtime gives axes of one name one size (see `KeepProvenShapesPass`).
    """
    known = {"batch", "sequence", "past", "total"}
    for node in graph:
        for value in node.outputs:
            if value.shape is None or len(value.shape) != 4:
                continue
            fixed = [isinstance(dim, int) for dim in value.shape]
            names = {(False, True, False, True): (0, 2), (False, False, True, True): (0, 1)}.get(tuple(fixed))
            if names is None:
                continue
            dims = list(value.shape)
            for number, name in zip(names, ("batch", "sequence"), strict=True):
                if str(dims[number].value) not in known:
                    dims[number] = name
            value.shape = ir.Shape(dims)
