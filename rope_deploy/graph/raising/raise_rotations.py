"""Raise: every application of a rotation in a graph becomes one `Rope` marker.

    rope_deploy::Rope(x, position_ids[, cos, sin]) -> y
        rotation     which of the graph's distinct rotations (index into `Raised.rotations`)
        layer, role, turn
                     where it applies: role is "q" or "k"; see `rope_deploy.graph.analysis.site_names`
        heads_axis   1 for x [B, N, S, H], 2 for x [B, S, N, H]
        rotary_dim, interleaved

cos and sin, [B, S, rotary_dim/2], are present only where the rotation cannot be a table (`Table.kind` "computed").
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from rope_deploy.errors import UnmatchedRotation
from rope_deploy.graph.analysis.data_movement import Marks
from rope_deploy.graph.analysis.dependence import POSITION_INPUT, Dependence, dependences
from rope_deploy.graph.analysis.dummy_inputs import dummy_inputs
from rope_deploy.graph.analysis.evaluate import NotEvaluable, Trig
from rope_deploy.graph.analysis.site_names import SiteName, site_names
from rope_deploy.graph.builder import Builder, replace
from rope_deploy.graph.operators import DOMAIN, MARKER
from rope_deploy.graph.passes.simplify import prune
from rope_deploy.graph.passes.split_rotation_matrices import add_up_pairs
from rope_deploy.graph.raising.match import BOTH, Column, Match, NotARotation, find_sums, recognise, with_batch
from rope_deploy.graph.raising.positions.counted_in_graph import CountingTabulator
from rope_deploy.graph.raising.positions.fixed_rows import RowTabulator, takes_rows
from rope_deploy.graph.raising.tabulate import Table, Tabulator


@dataclass(frozen=True)
class RaisedRotation:
    """One distinct rotation of a graph, shared by all its sites.

    `rearranged`: the model reads its pairs from another layout, which its input was brought from. `element_order`: of
    pairs that are neither halves nor neighbours, the elements in the order that makes them halves; () for all others.
    """

    name: str
    table: Table
    head_dim: int
    rotary_dim: int
    interleaved: bool
    max_position: int
    rearranged: bool = False
    element_order: tuple[int, ...] = ()


@dataclass(frozen=True)
class Raised:
    """A graph whose rotations are markers. `unmatched` is empty unless leaving some was allowed."""

    model: ir.Model
    rotations: tuple[RaisedRotation, ...]
    unmatched: tuple[str, ...]

    def markers(self) -> list[ir.Node]:
        return markers(self.model.graph)


def markers(graph: ir.Graph) -> list[ir.Node]:
    return [node for node in graph if node.domain == DOMAIN and node.op_type == MARKER]


def raise_rotations(
    model: ir.Model,
    max_position: int,
    *,
    cos: Trig | None = None,
    sin: Trig | None = None,
    allow_unmatched: bool = False,
) -> Raised:
    """Replace every rotation in `model` (changed in place) by a marker.

    `cos` and `sin` are the functions of the framework the model came from, for tables equal to its own bit for
    bit. Raises UnmatchedRotation, naming each place and the reason, if a rotation was not understood.
    """
    graph = model.graph
    given = next((value for value in graph.inputs if value.name == POSITION_INPUT), None)
    by_row = None
    if given is None and takes_rows(graph):
        add_up_pairs(graph)
        by_row = RowTabulator(graph, cos, sin)
    marks = dependences(graph) if by_row is None else by_row.marks
    sums = {found.output: found for found in find_sums(graph, marks)}
    inputs = dummy_inputs(graph)
    counting = CountingTabulator(graph, marks, max_position, cos, sin) if given is None else None
    tabulator = by_row or counting or Tabulator(graph, marks, max_position, cos, sin)
    matches: dict[ir.Value, tuple[Match, Table]] = {}
    reasons: dict[str, str] = {}
    for found in sums.values():
        try:
            if by_row is None:
                match = recognise(found, sums, marks, inputs)
            else:
                match = recognise(found, sums, marks, inputs, (4, 3), any_pairs=True)
            matches[match.root] = match, tabulator.table(match)
        except (NotARotation, NotEvaluable) as reason:
            reasons[found.output.producer().name] = str(reason)
    rotations = _Rotations(max_position if by_row is None else None)
    # Blocks of a tower may be numbered anew in every stage; its rotations are counted as they come.
    named = site_names(list(matches), numbered=by_row is None)
    for number, ((match, table), name) in enumerate(zip(matches.values(), named, strict=True)):
        positions = given or (counting.positions() if by_row is None else by_row.positions(match))
        _mark(match, rotations.index(match, table), table, positions, name, number)
    prune(model)
    left = unmatched_products(graph, reasons, marks=None if by_row is None else by_row.marks)
    unmatched = tuple(f"{name} ({op_type}): {why}" for name, op_type, why in left)
    if unmatched and not allow_unmatched:
        raise UnmatchedRotation(
            f"{len(unmatched)} places multiply activations by position-dependent values and are no known rotation:\n"
            + "\n".join(f"  - {line}" for line in unmatched[:8]),
            exists=f"{len(matches)} rotations were recognised.",
            todo="Give --allow-unmatched to leave these parts as they are.",
        )
    if not matches and not allow_unmatched:
        raise UnmatchedRotation(
            "The graph has no rotary position embedding.",
            todo="Check that the model uses RoPE and that positions reach it as position_ids.",
        )
    return Raised(model, rotations.all(), unmatched)


class _Rotations:
    """Collects distinct rotations: equal layout and equal tables, to the last bit, are one."""

    def __init__(self, max_position: int | None):
        self._max, self._known = max_position, {}

    def index(self, match: Match, table: Table) -> int:
        rows = len(table.cos) if self._max is None else self._max
        content = _digest(table.cos), _digest(table.sin), table.original, table.axes
        runtime = (match.cos, match.sin) if table.kind == "computed" else None
        key = (match.head_dim, match.rotary_dim, match.interleaved, match.order, match.element_order, content, runtime)
        if key not in self._known:
            name = f"rope_{len(self._known)}"
            rearranged = match.order is not None
            size = match.head_dim, match.rotary_dim
            rotation = RaisedRotation(
                name, table, *size, match.interleaved, rows, rearranged, match.element_order or ()
            )
            self._known[key] = len(self._known), rotation
        return self._known[key][0]

    def all(self) -> tuple[RaisedRotation, ...]:
        return tuple(rotation for _, rotation in self._known.values())


def _digest(array: np.ndarray) -> bytes:
    return hashlib.sha256(array.tobytes()).digest()


def _mark(match: Match, rotation: int, table: Table, positions: ir.Value, name: SiteName, number: int) -> None:
    """Put the marker where the rotation ends, and let everyone who used its end use the marker."""
    producer, source = match.root.producer(), match.source
    stem, inputs = f"rope/{name.layer}/{name.role}/{number}", [source, positions]
    if table.kind == "computed":
        build = Builder(producer, f"{stem}/table")
        inputs += [_runtime_half(build, match, match.cos), _runtime_half(build, match, match.sin)]
        producer = inputs[-1].producer()
    build = Builder(producer, stem)
    if match.order is not None:
        inputs[0] = build.op("Gather", source, build.ints(match.order), axis=-1, dtype=source.dtype, shape=source.shape)
    shape, single = with_batch(source.shape), len(source.shape) < len(with_batch(source.shape))
    if single:
        inputs[0] = build.op("Unsqueeze", inputs[0], build.ints([0]), dtype=source.dtype, shape=shape)
    output = build.op(
        MARKER,
        *inputs,
        domain=DOMAIN,
        dtype=match.root.dtype,
        shape=shape,
        rotation=rotation,
        layer=name.layer,
        role=name.role,
        occurrence=name.occurrence,
        heads_axis=match.heads_axis,
        num_heads=match.num_heads,
        rotary_dim=match.rotary_dim,
        interleaved=int(match.interleaved),
    )
    if match.element_order is not None:
        back = np.argsort(match.element_order).tolist()
        output = build.op("Gather", output, build.ints(back), axis=-1, dtype=source.dtype, shape=shape)
    if single:
        output = build.op("Squeeze", output, build.ints([0]), dtype=source.dtype, shape=source.shape)
    replace(match.root, output)


def _runtime_half(build: Builder, match: Match, columns: tuple[Column, ...]) -> ir.Value:
    """cos or sin as the graph computes it, cut to half width: [B, S, rotary_dim/2]."""
    columns = columns[: match.rotary_dim // 2]
    factor, sign = columns[0].factor, columns[0].sign
    dtype, shape = factor.dtype, ["batch", "sequence", len(columns)]
    flat = build.op("Squeeze", factor, build.ints([match.heads_axis]), dtype=dtype)
    half = build.op("Gather", flat, build.ints([c.index for c in columns]), axis=-1, dtype=dtype, shape=shape)
    return half if sign > 0 else build.op("Neg", half, dtype=dtype, shape=shape)


def unmatched_products(
    graph: ir.Graph, reasons: Mapping[str, str], known: Collection[ir.Node] = (), marks: Marks | None = None
) -> Iterator[tuple[str, str, str]]:
    """(node, operator, reason) of what still multiplies an activation by something that depends on the positions.

    `reasons` are those why a sum is no rotation, by the name of its node; the nodes `known` are part of one.
    """
    marks = dependences(graph) if marks is None else marks
    for node in graph:
        if node.op_type not in ("Mul", "MatMul", "Einsum") or node in known:
            continue
        kinds = [marks.get(v, Dependence.NOTHING) for v in node.inputs if v is not None]
        floating = all(v is None or v.dtype is None or v.dtype.is_floating_point() for v in node.inputs)
        mixes = Dependence.POSITION in kinds and (Dependence.ACTIVATION in kinds or BOTH in kinds)
        if floating and mixes and not _scales(node, marks):
            users = [user.name for user, _ in node.outputs[0].uses()]
            why = next((reasons[name] for name in users if name in reasons), "it is not part of a sum of two products")
            yield node.name or node.outputs[0].name, node.op_type, why


def _scales(node: ir.Node, marks: Marks) -> bool:
    """Whether a product only scales each token as a whole, as attention temperatures that grow with the position do."""
    factors = [v for v in node.inputs if marks.get(v) == Dependence.POSITION]
    return node.op_type == "Mul" and all(v.shape is not None and v.shape[-1] == 1 for v in factors)
