"""The ways through a file's graph: one for each choice of branch at its Ifs, each as a graph without them.

A merged decoder is two decoders behind one If; a file for two lengths (LongRoPE) chooses its table by one. What is
inside a Loop or a Scan is not followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import onnx_ir as ir

from rope_deploy.graph.analysis.dependence import POSITION_INPUT
from rope_deploy.graph.io import read_model
from rope_deploy.graph.passes.sequences import find_shapes_to_read, run, unpack_to_read
from rope_deploy.graph.reading.foreign_file import name_axes

BRANCHES = ("then_branch", "else_branch")
# Above this many independent conditions, all true and all false stand for the rest.
MOST_CONDITIONS = 2


@dataclass(frozen=True)
class Way:
    """A graph ready to be read, and what was chosen to get it."""

    model: ir.Model
    branch: str
    unseen: tuple[str, ...]


def ways(path: Path) -> Iterator[Way]:
    """Every way through `path`, one at a time. Raises UsageError for what is not an ONNX file."""
    model = read_model(path, weights=False)
    choices = list(_choices(model))
    for number, chosen in enumerate(choices):
        if number:
            model = read_model(path, weights=False)
        unseen = list(_take(model, chosen))
        if len(chosen) > MOST_CONDITIONS:
            unseen.append(f"It has {len(chosen)} independent conditions: read with all of them true, and all false.")
        _prepare(model)
        branch = ", ".join(f"{name} {'true' if way == BRANCHES[0] else 'false'}" for name, way in chosen.items())
        yield Way(model, branch, tuple(unseen))


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
    """Put the chosen branch in the place of every If; yields what is left with subgraphs of its own."""
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


def _prepare(model: ir.Model) -> None:
    """Inline functions, lift constants, name the axes and find the shapes."""
    graph = model.graph
    for value in [value for value in graph.inputs if value.name in graph.initializers]:
        graph.inputs.remove(value)
    _name_positions(graph)
    run(model, unpack_to_read())
    symbols = name_axes(graph)
    _name_axis_of_positions(graph, symbols)
    run(model, find_shapes_to_read(symbols))


def _name_positions(graph: ir.Graph) -> None:
    """Whole numbers called positions, however spelled, are position_ids."""
    if any(value.name == POSITION_INPUT for value in graph.inputs):
        return
    for value in graph.inputs:
        if "position" in value.name.lower() and value.dtype in (ir.DataType.INT64, ir.DataType.INT32):
            value.name = POSITION_INPUT
            return


def _name_axis_of_positions(graph: ir.Graph, symbols: Mapping[str, str]) -> None:
    """The one axis of positions that all rows share is named as that of the tokens it belongs to."""
    for value in graph.inputs:
        if value.name == POSITION_INPUT and value.shape is not None and len(value.shape) == 1:
            (size,) = value.shape
            if not isinstance(size, int):
                value.shape = ir.Shape([symbols.get(str(size.value), "sequence")])
