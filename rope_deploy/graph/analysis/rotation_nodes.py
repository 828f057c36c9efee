"""Find the nodes of a lowered graph that compute its rotations, so that their time can be summed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rope_deploy.artifact import Site
from rope_deploy.graph.analysis.evaluate import ancestors
from rope_deploy.graph.io import read_model


def rotating_nodes(path: Path, sites: Collection[Site]) -> frozenset[tuple[str, str]]:
    """(name, operator) of every named node between the inputs and outputs of `sites`, tables and rows included.

    Sites whose rotation happens inside a fused attention have no output, and no nodes of their own.
    """
    graph = read_model(path).graph
    made = {output.name: output for node in graph for output in node.outputs}
    given = {value.name: value for value in graph.inputs}
    before = {site.input for site in sites}
    stop = {value for name, value in (made | given).items() if name in before}
    after = [made[site.output] for site in sites if site.output in made]
    return frozenset((node.name, node.op_type) for node in ancestors(after, stop) if node.name)
