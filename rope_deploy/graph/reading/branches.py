"""The branches of a file's graph: one for each choice at its Ifs, each as a graph without them.

A merged decoder is two decoders behind one If; a file for two lengths (LongRoPE) chooses its table by one. What is
inside a Loop or a Scan is not followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.analysis.dependence import POSITION_INPUT
from rope_deploy.graph.io import read_model
from rope_deploy.graph.passes.sequences import FOLD_LIMIT, find_shapes_to_read, run, unpack_to_read
from rope_deploy.graph.reading.axis_names import name_axes
from rope_deploy.graph.rotating_operators import rotates

BRANCHES = ("then_branch", "else_branch")
# Above this many independent conditions, all true and all false stand for the rest.
MOST_CONDITIONS = 2
# Metadata of the nodes that a rotating function was written out into: what reports call its rotation.
FORM = "rope_deploy.form"


@dataclass(frozen=True)
class Branch:
    """A graph ready to be read. `name` says what was chosen, "" in a file without Ifs.

    `skipped`: parts that are not searched, one sentence each. `inputs` are named as the file names them; `nodes` and
    `trigonometric` (Cos and Sin) are counted before anything is folded, the latter also in subgraphs and functions.
    `twins`: small tables that were equal and have become one, by the name of any of them.
    """

    model: ir.Model
    name: str
    skipped: tuple[str, ...]
    inputs: tuple[str, ...]
    nodes: int
    trigonometric: int
    twins: Mapping[str, tuple[str, ...]]


def branches(path: Path, *, without_weights: bool = False) -> Iterator[Branch]:
    """Every branch of `path`, one at a time. Raises UsageError for what is not an ONNX file.

    `without_weights`: weights in a file that is not there are made up, so that the graph can be read all the same.
    """
    model = read_model(path, weights=False)
    choices = list(_choices(model))
    for number, chosen in enumerate(choices):
        if number:
            model = read_model(path, weights=False)
        skipped = list(_take(model, chosen))
        if len(chosen) > MOST_CONDITIONS:
            skipped.append(f"It has {len(chosen)} independent conditions: read with all of them true, and all false.")
        if without_weights:
            skipped += _replace_missing(model)
        inputs, nodes = tuple(value.name for value in model.graph.inputs), len(model.graph)
        trigonometric, twins = _prepare(model)
        name = ", ".join(f"{name} {'true' if taken == BRANCHES[0] else 'false'}" for name, taken in chosen.items())
        yield Branch(model, name, tuple(skipped), inputs, nodes, trigonometric, twins)


def _choices(model: ir.Model) -> Iterator[dict[str, str]]:
    """A branch for each condition, by the condition's name."""
    conditions = list(dict.fromkeys(node.inputs[0].name for node in model.graph.all_nodes() if _is_if(node)))
    if len(conditions) <= MOST_CONDITIONS:
        yield from (dict(zip(conditions, chosen, strict=True)) for chosen in product(BRANCHES, repeat=len(conditions)))
    else:
        yield from (dict.fromkeys(conditions, branch) for branch in BRANCHES)


def _is_if(node: ir.Node) -> bool:
    return node.op_type == "If" and node.domain == ""


def _take(model: ir.Model, chosen: dict[str, str]) -> Iterator[str]:
    """Replace every If by its chosen branch; yields what is left with subgraphs of its own."""
    graph = model.graph
    while found := [node for node in graph if _is_if(node)]:
        for node in found:
            _splice(graph, node, node.attributes[chosen[node.inputs[0].name]].as_graph())
    inside: dict[str, list[int]] = {}
    for node in graph:
        parts = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
        if count := sum(part.num_nodes() for part in parts):
            inside.setdefault(node.op_type, []).append(count)
    for kind, counts in inside.items():
        which = f"a {kind}" if len(counts) == 1 else f"{len(counts)} nodes of type {kind}"
        yield f"{sum(counts)} nodes inside {which} were not looked into."


def _splice(graph: ir.Graph, node: ir.Node, branch: ir.Graph) -> None:
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        if name not in graph.initializers:
            graph.register_initializer(value)
        else:
            value.replace_all_uses_with(graph.initializers[name])
    results = list(branch.outputs)
    branch.outputs.clear()
    for inner in list(branch):
        branch.remove(inner)
        graph.insert_before(node, inner)
    for output, result in zip(node.outputs, results, strict=True):
        if output.is_graph_output():
            output.name, result.name = f"{output.name}/before", output.name
            graph.outputs[graph.outputs.index(output)] = result
        output.replace_all_uses_with(result)
    graph.remove(node, safe=True)


def _replace_missing(model: ir.Model) -> Iterator[str]:
    """Replace weights whose file is not there by `_stand_in`s; yields which files are missing."""
    missing: dict[str, None] = {}
    for number, value in enumerate(model.graph.initializers.values()):
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor) and not os.path.isfile(tensor.path):
            missing[os.path.basename(tensor.path)] = None
            value.const_value = _stand_in(tensor, number)
    yield from (f"{name}, which holds weights, is not there: tables in it were not read." for name in missing)


def _stand_in(tensor: ir.ExternalTensor, number: int) -> ir.Tensor:
    """A tensor of ones, which takes no memory; a small one has twos that no other `number` has, so as not to be merged
    with an equal one."""
    shape = tuple(tensor.shape)
    array = np.broadcast_to(np.ones((), tensor.dtype.numpy()), shape)
    if tensor.size <= FOLD_LIMIT:
        array = np.array(array)
        bits = [bit for bit in range(min(tensor.size, 32)) if number >> bit & 1]
        array.reshape(-1)[bits] = 2
    return ir.Tensor(array, dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)


def _prepare(model: ir.Model) -> tuple[int, Mapping[str, tuple[str, ...]]]:
    """Inline functions, lift constants, name the axes and find the shapes.

    Returns what is lost thereby: how many Cos and Sin there were, and which small tables were equal.
    """
    graph = model.graph
    for value in [value for value in graph.inputs if value.name in graph.initializers]:
        graph.inputs.remove(value)
    _name_positions(graph)
    for node in graph:
        if (operator := rotates(node)) is not None:
            node.metadata_props[FORM] = operator.form  # the nodes it is written out into inherit this
    run(model, unpack_to_read())
    trigonometric = sum(node.op_type in ("Cos", "Sin") and node.domain == "" for node in graph.all_nodes())
    twins = _twins(graph)
    symbols = name_axes(graph)
    _name_axis_of_positions(graph, symbols)
    run(model, find_shapes_to_read(symbols))
    return trigonometric, twins


def _twins(graph: ir.Graph) -> Mapping[str, tuple[str, ...]]:
    equal: dict[tuple, list[str]] = {}
    for value in graph.initializers.values():
        tensor = value.const_value
        small = tensor is not None and tensor.size <= FOLD_LIMIT and len(tensor.shape) > 1
        if small and tensor.dtype.is_floating_point() and value.uses():
            key = (tensor.dtype, tuple(tensor.shape), tensor.tobytes())
            equal.setdefault(key, []).append(value.name)
    return {name: tuple(names) for names in equal.values() for name in names if len(names) > 1}


def _name_positions(graph: ir.Graph) -> None:
    """Rename the input of whole numbers that is called positions, in whatever form, to position_ids."""
    if any(value.name == POSITION_INPUT for value in graph.inputs):
        return
    for value in graph.inputs:
        if "position" in value.name.lower() and value.dtype in (ir.DataType.INT64, ir.DataType.INT32):
            value.name = POSITION_INPUT
            return


def _name_axis_of_positions(graph: ir.Graph, symbols: Mapping[str, str]) -> None:
    """Name the one axis of positions that all rows share as that of the tokens it belongs to."""
    for value in graph.inputs:
        if value.name == POSITION_INPUT and value.shape is not None and len(value.shape) == 1:
            (size,) = value.shape
            if not isinstance(size, int):
                value.shape = ir.Shape([symbols.get(str(size.value), "sequence")])
