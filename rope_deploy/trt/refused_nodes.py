"""Nodes that a vendor refused: a rotation's, so that another style may help, or the model's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rope_deploy.artifact import Manifest, Site
from rope_deploy.errors import GraphRefused, RefusedNode
from rope_deploy.graph.rotating_operators import written_names

if TYPE_CHECKING:
    import onnx

# Operators that are a rotation or hold one, by name: vendors' messages leave out the domain.
ROTARY = written_names()


def judged(error: GraphRefused, model: Path, manifest: Manifest) -> GraphRefused:
    """The same error, which says whether the refused nodes belong to rotations.

    Where the parser named none, the nodes are looked up that the builder's message mentions.
    """
    from rope_deploy.graph.io import read_proto

    graph = read_proto(model, weights=False)[0].graph
    nodes = error.nodes or tuple(_mentioned(error.asked, graph.node))
    if not nodes:
        return error
    rotating = rotation_nodes(graph.node, manifest.sites)
    theirs = [node for node in nodes if not _rotates(node, rotating)]
    listed = ", ".join(map(str, theirs))
    exists = f"Not part of a rotation: {listed}." if theirs else "Only rotations are refused."
    todo = error.todo
    if len(theirs) == len(nodes):
        todo = "No style changes that; another --dtype, --opset or --no-cache at the export may."
    return GraphRefused(error.asked, exists=exists, todo=todo, nodes=nodes, of_rotation=len(theirs) < len(nodes))


def rotation_nodes(nodes: Sequence[onnx.NodeProto], sites: Sequence[Site]) -> frozenset[str]:
    """Names of the nodes between a site's input, its tables and positions, and its output."""
    made_by = {name: node for node in nodes for name in node.output}
    found = {node.name for node in nodes if node.op_type in ROTARY}
    visited = {site.input for site in sites}  # of all sites: one node may rotate q and k
    pending = [site.output for site in sites if site.output]
    while pending:
        name = pending.pop()
        if name not in visited and name in made_by:
            visited.add(name)
            found.add(made_by[name].name)
            pending.extend(made_by[name].input)
    return frozenset(found - {""})


def _rotates(node: RefusedNode, rotating: frozenset[str]) -> bool:
    return (
        node.operator in ROTARY
        or node.name in rotating
        or any(function.rpartition(":")[2] in ROTARY for function in node.inside)
    )


def _mentioned(text: str, nodes: Iterable[onnx.NodeProto]) -> Iterable[RefusedNode]:
    """Nodes whose name occurs in `text`."""
    names = set(re.findall(r"[\w./:-]+", text))
    return (RefusedNode(node.op_type, node.name) for node in nodes if node.name in names)
