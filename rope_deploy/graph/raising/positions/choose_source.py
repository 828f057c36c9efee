"""The choice of a graph's position source, by its inputs."""

from __future__ import annotations

import onnx_ir as ir

from rope_deploy.graph.analysis.dependence import POSITION_INPUT
from rope_deploy.graph.analysis.evaluate import Trig
from rope_deploy.graph.analysis.fixed_length import has_fixed_rows
from rope_deploy.graph.raising.positions.counted_in_graph import CountedInGraph
from rope_deploy.graph.raising.positions.fixed_rows import FixedRows
from rope_deploy.graph.raising.positions.from_input import FromInput
from rope_deploy.graph.raising.positions.position_source import PositionSource


def choose_source(graph: ir.Graph, max_position: int, cos: Trig | None, sin: Trig | None) -> PositionSource:
    """The input if `graph` has one; else the rows if every call has as many tokens; else what the graph counts."""
    given = next((value for value in graph.inputs if value.name == POSITION_INPUT), None)
    if given is not None:
        return FromInput(graph, given, max_position, cos, sin)
    if has_fixed_rows(graph):
        return FixedRows(graph, cos, sin)
    return CountedInGraph(graph, max_position, cos, sin)
