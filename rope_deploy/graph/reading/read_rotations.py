"""Read every rotation of an ONNX file by any exporter: where it applies, its layout, its cos and sin.

Nothing is run, and of the weights only tables and small constants are read. What is not understood is returned with its
reason, never passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from rope_deploy.errors import UsageError
from rope_deploy.graph.analysis.data_movement import MOVES, Marks
from rope_deploy.graph.analysis.dependence import Dependence, dependences
from rope_deploy.graph.analysis.dummy_inputs import dummy_inputs
from rope_deploy.graph.analysis.evaluate import NotEvaluable, ancestors
from rope_deploy.graph.analysis.layer_and_role import layer_around, layer_of, role_of
from rope_deploy.graph.raising.match import NotARotation, find_sums, recognise
from rope_deploy.graph.raising.unmatched_products import unmatched_products
from rope_deploy.graph.reading.branches import FORM, Branch, branches
from rope_deploy.graph.reading.example_calls import ExampleCalls
from rope_deploy.graph.reading.operator_sites import LocatedSite, operator_sites
from rope_deploy.graph.reading.records import FoundSite, FoundTable, Reading, Unread, Unreadable
from rope_deploy.graph.reading.table_sources import TableSource, is_row_table, read_table
from rope_deploy.graph.rotating_operators import MULTIPLY_ADD


def read_rotations(path: Path, *, without_weights: bool = False) -> tuple[Reading, ...]:
    """One reading for each branch of `path` (several where it has Ifs).

    Raises UsageError for what is not ONNX, and if a table lies in a file that is not there. `without_weights`: such a
    table has no meaning, and a sentence in `Reading.skipped`; sites and layouts are found all the same.
    """
    path = Path(path)
    try:
        return tuple(_read(branch) for branch in branches(path, without_weights=without_weights))
    except FileNotFoundError as error:
        name = Path(error.filename).name if error.filename else "another file"
        raise UsageError(
            f"{path} has its tables in {name}, which is not beside it.",
            todo=f"Put {name} into {path.parent}; of it only the tables are read.",
        ) from None


def _read(branch: Branch) -> Reading:
    graph, calls = branch.model.graph, ExampleCalls(branch.model.graph)
    tables = _row_tables(graph, dependences(graph))
    marks = dependences(graph, tables=tables, counting=True)
    found, unread = operator_sites(graph)
    sums, reasons = _sites_in_sums(graph, marks)
    found += sums
    known = {node for one in sums for node in ancestors([one.source.match.root], {one.source.match.source})}
    known |= {one.node for one in found}
    left = unmatched_products(graph, reasons, dependences(graph), known)
    unread += [Unread(name, f"{op}: {why}") for name, op, why in left]
    sites, read, without_table = _with_tables(found, calls, marks)
    positions = calls.positions
    return Reading(
        branch=branch.name,
        opset=graph.opset_imports.get("", 0),
        inputs=branch.inputs,
        nodes=branch.nodes,
        trigonometric=branch.trigonometric,
        sites=tuple(sites),
        tables=tuple(_with_twins(table, branch.twins) for table in read),
        unread=(*unread, *without_table),
        skipped=branch.skipped,
        numbered=all(one.layer is not None for one in found),
        cached=calls.cached,
        position_axes=None if positions is None else _axes(positions),
    )


def _with_twins(table: FoundTable, twins: Mapping[str, tuple[str, ...]]) -> FoundTable:
    names = {twin for name in table.constants for twin in twins.get(name, (name,))}
    return replace(table, constants=tuple(sorted(names)))


def _axes(positions: ir.Value) -> int:
    first = positions.shape[0] if positions.shape is not None and len(positions.shape) == 3 else 1
    return first if isinstance(first, int) else 3


def _row_tables(graph: ir.Graph, marks: Marks) -> set[ir.Value]:
    """Constants of two axes or more that, moved and cut, are multiplied with activations element by element.

    They are cos and sin computed when the graph was made, if there are two such products in a sum.
    """
    found: set[ir.Value] = set()
    for node in graph:
        if node.op_type != "Mul":
            continue
        kinds = [marks.get(value, Dependence.NOTHING) for value in node.inputs]
        if Dependence.NOTHING in kinds and any(Dependence.ACTIVATION in kind for kind in kinds):
            found |= set(_moved_constants(node.inputs[kinds.index(Dependence.NOTHING)]))
    return found


def _moved_constants(value: ir.Value) -> Iterator[ir.Value]:
    stack = [value]
    while stack:
        value = stack.pop()
        if value.const_value is not None:
            if is_row_table(value):
                yield value
        elif (node := value.producer()) is not None and node.op_type in (*MOVES, "Cast"):
            stack += [source for source in node.inputs if source is not None]


def _sites_in_sums(graph: ir.Graph, marks: Marks) -> tuple[list[LocatedSite], Mapping[str, str]]:
    sums = {found.output: found for found in find_sums(graph, marks)}
    inputs = dummy_inputs(graph)
    matches, reasons = {}, {}
    for total in sums.values():
        try:
            match = recognise(total, sums, marks, inputs)
            matches[match.root] = match
        except (NotARotation, NotEvaluable) as reason:
            reasons[total.output.producer().name] = str(reason)
    found = []
    for match in matches.values():
        node = match.root.producer()
        source = TableSource(match.source, match=match)
        inside = list(ancestors([match.root], {match.source}))
        layer = layer_of(node)
        if layer is None:
            layer = layer_around(match.root, inside)
        form = next((one.metadata_props[FORM] for one in inside if FORM in one.metadata_props), MULTIPLY_ADD)
        about = layer, match.num_heads, match.head_dim, match.rotary_dim, match.interleaved
        found.append(LocatedSite(node, form, source, role_of(match.root), *about))
    return found, reasons


def _with_tables(found: list[LocatedSite], calls: ExampleCalls, marks: Marks):
    """Sites with the tables they use, each table once; and those whose table could not be read."""
    sites: list[FoundSite] = []
    tables: list[FoundTable] = []
    known: dict[tuple, int | str] = {}
    without_table: list[Unread] = []
    counted: Counter[str] = Counter()
    for one in found:
        key = one.source.key
        if key not in known:
            try:
                tables.append(read_table(one.source, calls, marks))
                known[key] = len(tables) - 1
            except Unreadable as reason:
                known[key] = str(reason)
        number = known[key]
        layer = counted[one.role] if one.layer is None else one.layer
        counted[one.role] += 1
        name = one.node.name or one.node.outputs[0].name
        if isinstance(number, str):
            without_table.append(Unread(name, f"its cos and sin cannot be read: {number}"))
            continue
        rotary = one.rotary_dim or 2 * tables[number].width
        sites.append(
            FoundSite(layer, one.role, name, one.form, number, one.num_heads, one.head_dim, rotary, one.interleaved)
        )
    return sites, tables, without_table
