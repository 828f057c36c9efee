"""Raise: every application of a rotation in a graph becomes one marker; see `rope_deploy.graph.markers`."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.errors import UnmatchedRotation
from rope_deploy.graph.analysis.dummy_inputs import dummy_inputs
from rope_deploy.graph.analysis.evaluate import NotEvaluable, Trig
from rope_deploy.graph.analysis.site_names import site_names
from rope_deploy.graph.markers import Raised, Table
from rope_deploy.graph.passes.sequences import before_raising, run
from rope_deploy.graph.raising.distinct_rotations import DistinctRotations
from rope_deploy.graph.raising.mark import mark
from rope_deploy.graph.raising.match import Match, NotARotation, find_sums, recognise
from rope_deploy.graph.raising.positions.choose_source import choose_source
from rope_deploy.graph.raising.positions.position_source import PositionSource
from rope_deploy.graph.raising.unmatched_products import unmatched_products

MOST_LISTED = 8


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
    bit. Raises UnmatchedRotation, naming each node and the reason, if a rotation was not understood.
    """
    run(model, before_raising())
    source = choose_source(model.graph, max_position, cos, sin)
    found, reasons = _find(model.graph, source)
    names = site_names([match.root for match, _ in found], numbered=source.numbered)
    rotations = DistinctRotations()
    for number, ((match, table), name) in enumerate(zip(found, names, strict=True)):
        rotation = rotations.index(match, table, source.rows(table))
        mark(match, rotation, table, source.positions(match), name, number)
    common.RemoveUnusedNodesPass()(model)
    left = unmatched_products(model.graph, reasons, source.marks())
    unmatched = tuple(f"{name} ({op_type}): {why}" for name, op_type, why in left)
    if not allow_unmatched:
        _refuse(unmatched, len(found))
    return Raised(model, rotations.all(), unmatched)


def _find(graph: ir.Graph, source: PositionSource) -> tuple[list[tuple[Match, Table]], Mapping[str, str]]:
    """The rotations of `graph` with their tables; and why a sum is none, by the name of its node."""
    marks, inputs = source.marks(), dummy_inputs(graph)
    sums = {found.output: found for found in find_sums(graph, marks)}
    found: dict[ir.Value, tuple[Match, Table]] = {}  # by where they end: both halves of a head lead to one
    reasons: dict[str, str] = {}
    for one in sums.values():
        try:
            match = recognise(one, sums, marks, inputs, source.ranks, any_pairs=source.any_pairs)
            found[match.root] = match, source.table(match)
        except (NotARotation, NotEvaluable) as reason:
            reasons[one.output.producer().name] = str(reason)
    return list(found.values()), reasons


def _refuse(unmatched: tuple[str, ...], recognised: int) -> None:
    """Raise UnmatchedRotation where something was not understood, or nothing was found."""
    if unmatched:
        nodes = "1 node multiplies" if len(unmatched) == 1 else f"{len(unmatched)} nodes multiply"
        raise UnmatchedRotation(
            f"{nodes} activations by position-dependent values, which is no known rotation:\n"
            + "\n".join(f"  - {line}" for line in unmatched[:MOST_LISTED]),
            exists=f"{recognised} rotations were recognised.",
            todo="Give --allow-unmatched to leave these parts as they are.",
        )
    if not recognised:
        raise UnmatchedRotation(
            "The graph has no rotary position embedding.",
            todo="Check that the model uses RoPE and that positions reach it as position_ids.",
        )
