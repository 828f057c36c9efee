"""Tell whether the nodes that a vendor refused belong to a rotation (another style may help) or to the model."""

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

# Names of the rotating operators that styles write, without domains: vendors' messages leave those out.
ROTARY = written_names()


def attribute_refusal(error: GraphRefused, model: Path, manifest: Manifest) -> GraphRefused:
    """The same error, saying whether the refused nodes belong to rotations.

    Where the parser named no node, those that the builder's message mentions count as refused; none: `error` itself.
    """
    from rope_deploy.graph.io import read_proto

    graph = read_proto(model, weights=False)[0].graph
    nodes = error.nodes or tuple(_mentioned(error.asked, graph.node))
    if not nodes:
        return error
    rotating = rotation_nodes(graph.node, manifest.sites)
    unrelated = [node for node in nodes if not _rotates(node, rotating)]
    listed = ", ".join(map(str, unrelated))
    exists = f"Not part of a rotation: {listed}." if unrelated else "Only rotations are refused."
    todo = error.todo
    if len(unrelated) == len(nodes):
        todo = "No style changes that; another --dtype, --opset or --no-cache at the export may."
    return GraphRefused(error.asked, exists=exists, todo=todo, nodes=nodes, of_rotation=len(unrelated) < len(nodes))


def rotation_nodes(nodes: Sequence[onnx.NodeProto], sites: Sequence[Site]) -> frozenset[str]:
    """Names of the nodes that compute a site's output, back to the site's input, and of all rotating operators."""
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
