"""Read every rotation of an ONNX file by any exporter: where it applies, its layout, its cos and sin.

Nothing is run and no weight is read. What is not understood is returned with its reason, never passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
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
from rope_deploy.graph.reading.branches import Way, ways
from rope_deploy.graph.reading.example_calls import Calls
from rope_deploy.graph.reading.operators import Applied, applied, form_of, hides_rotation
from rope_deploy.graph.reading.records import FoundSite, FoundTable, Reading, Unread, Unreadable
from rope_deploy.graph.reading.table_sources import Source, is_row_table, read_table

SUM = "multiply-add in standard operators"


def read_rotations(path: Path) -> tuple[Reading, ...]:
    """One reading for each way through `path` (several where it has Ifs).

    Raises UsageError for what is not ONNX, and if a table lies in a file that is not there.
    """
    path = Path(path)
    try:
        return tuple(_read(way) for way in ways(path))
    except FileNotFoundError as error:
        name = Path(error.filename).name if error.filename else "another file"
        raise UsageError(
            f"{path} has its tables in {name}, which is not beside it.",
            todo=f"Put {name} into {path.parent}; of it only the tables are read.",
        ) from None


def _read(way: Way) -> Reading:
    graph, calls = way.model.graph, Calls(way.model.graph)
    tables = _row_tables(graph, dependences(graph))
    marks = dependences(graph, tables=tables, counting=True)
    found, unread = _in_operators(graph)
    sums, reasons = _in_sums(graph, marks)
    found += sums
    known = {node for one in sums for node in ancestors([one.source.match.root], {one.source.match.source})}
    known |= {one.node for one in found}
    unread += [
        Unread(name, f"{op}: {why}") for name, op, why in unmatched_products(graph, reasons, dependences(graph), known)
    ]
    sites, read, wrong = _with_tables(found, calls, marks)
    positions = calls.positions
    return Reading(
        branch=way.branch,
        opset=graph.opset_imports.get("", 0),
        inputs=tuple(value.name for value in graph.inputs),
        sites=tuple(sites),
        tables=tuple(read),
        unread=(*unread, *wrong),
        unseen=way.unseen,
        numbered=all(one.layer is not None for one in found),
        cached=calls.cached,
        position_axes=None if positions is None else _axes(positions),
    )


def _axes(positions: ir.Value) -> int:
    first = positions.shape[0] if positions.shape is not None and len(positions.shape) == 3 else 1
    return first if isinstance(first, int) else 3


def _row_tables(graph: ir.Graph, marks: Marks) -> set[ir.Value]:
    """Constants of two axes or more that, moved and cut, are multiplied with activations element by element.

    They are cos and sin worked out when the graph was made, if there are two such products in a sum.
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


def _in_operators(graph: ir.Graph) -> tuple[list[Applied], list[Unread]]:
    found, unread = [], []
    for node in graph:
        if hides_rotation(node):
            unread.append(Unread(node.name or node.outputs[0].name, f"{form_of(node)} rotates by a rule of its own."))
        for one in applied(node):
            if one.source.cos is None or one.source.sin is None:
                unread.append(Unread(node.name or node.outputs[0].name, f"{one.form} has no table to rotate by."))
            else:
                found.append(one)
    return found, unread


def _in_sums(graph: ir.Graph, marks: Marks) -> tuple[list[Applied], Mapping[str, str]]:
    sums = {found.output: found for found in find_sums(graph, marks)}
    inputs = dummy_inputs(graph)
    matches, reasons = {}, {}
    for candidate in sums.values():
        try:
            match = recognise(candidate, sums, marks, inputs)
            matches[match.root] = match
        except (NotARotation, NotEvaluable) as reason:
            reasons[candidate.output.producer().name] = str(reason)
    found = []
    for match in matches.values():
        node = match.root.producer()
        source = Source(match.source, match=match)
        layer = layer_of(node)
        if layer is None:
            layer = layer_around(match.root, list(ancestors([match.root], {match.source})))
        about = layer, match.num_heads, match.head_dim, match.rotary_dim, match.interleaved
        found.append(Applied(node, SUM, source, role_of(match.root), *about))
    return found, reasons


def _with_tables(found: list[Applied], calls: Calls, marks: Marks):
    """Sites with the tables they use, each table once; and those whose table could not be read."""
    sites: list[FoundSite] = []
    tables: list[FoundTable] = []
    known: dict[tuple, int | str] = {}
    wrong: list[Unread] = []
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
            wrong.append(Unread(name, f"its cos and sin cannot be read: {number}"))
            continue
        rotary = one.rotary_dim or 2 * tables[number].width
        sites.append(
            FoundSite(layer, one.role, name, one.form, number, one.num_heads, one.head_dim, rotary, one.interleaved)
        )
    return sites, tables, wrong
