"""Name the sites of a graph: layer, role, and occurrence where a layer has several of one role.

A layer rotates its q and its k once. Three kinds of model do otherwise: an indexer that picks what attention reads
rotates a q and a k of its own; one layer may run several times; an encoder and a decoder both number their layers
from 0.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from rope_deploy.graph.analysis.layer_and_role import depth_of, layer_of, role_of


@dataclass(frozen=True)
class SiteName:
    """`occurrence` 0 is the attention's own; an indexer's follow."""

    layer: int
    role: str
    occurrence: int = 0


def site_names(roots: Sequence[ir.Value], *, numbered: bool = True) -> list[SiteName]:
    """The name of each rotation that ends in one of `roots`, which are in the order in which they run.

    Of two in one layer, the one in the outer module is the attention's own. Where the own ones of several attentions
    have the same number, or none, or it means nothing (`numbered` False), all layers are numbered as they run.
    """
    roles = [role_of(root) for root in roots]
    layers = [layer_of(root.producer()) for root in roots]
    if not numbered or any(layer is None for layer in layers):
        return _numbered_as_they_run(roles)
    depths = [depth_of(root.producer()) for root in roots]
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for index, (layer, role) in enumerate(zip(layers, roles, strict=True)):
        groups[layer, role].append(index)
    occurrences = [0] * len(roots)
    for alike in groups.values():
        alike.sort(key=lambda index: (depths[index], index))
        if len(alike) > 1 and depths[alike[0]] == depths[alike[1]]:
            return _numbered_as_they_run(roles)
        for occurrence, index in enumerate(alike):
            occurrences[index] = occurrence
    return [SiteName(*name) for name in zip(layers, roles, occurrences, strict=True)]


def _numbered_as_they_run(roles: Sequence[str]) -> list[SiteName]:
    counted: Counter[str] = Counter()
    found = []
    for role in roles:
        found.append(SiteName(counted[role], role))
        counted[role] += 1
    return found
