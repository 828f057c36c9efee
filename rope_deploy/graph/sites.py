"""What the rotations of a graph are called: layer, q or k, and which of several of these.

A layer turns its q and its k once. Three kinds of model do otherwise: an indexer that picks what attention reads turns
a q and a k of its own; one layer may run several times; an encoder and a decoder both number their layers from 0.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from rope_deploy.graph.places import depth_of, layer_of, role_of


@dataclass(frozen=True)
class Place:
    """`turn` 0 is the attention's own; an indexer's follow."""

    layer: int
    role: str
    turn: int = 0


def places(roots: Sequence[ir.Value], *, numbered: bool = True) -> list[Place]:
    """The name of each rotation that ends in one of `roots`, which are in the order in which they run.

    Of two in one layer, the one in the outer module is the attention's own. Where the own ones of several attentions
    have the same number, or none, or it means nothing (`numbered` False), all layers are numbered as they run.
    """
    roles = [role_of(root) for root in roots]
    layers = [layer_of(root.producer()) for root in roots]
    if not numbered or any(layer is None for layer in layers):
        return _as_they_come(roles)
    depths = [depth_of(root.producer()) for root in roots]
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for index, (layer, role) in enumerate(zip(layers, roles, strict=True)):
        groups[layer, role].append(index)
    turns = [0] * len(roots)
    for alike in groups.values():
        alike.sort(key=lambda index: (depths[index], index))
        if len(alike) > 1 and depths[alike[0]] == depths[alike[1]]:
            return _as_they_come(roles)
        for turn, index in enumerate(alike):
            turns[index] = turn
    return [Place(*place) for place in zip(layers, roles, turns, strict=True)]


def _as_they_come(roles: Sequence[str]) -> list[Place]:
    counted: Counter[str] = Counter()
    found = []
    for role in roles:
        found.append(Place(counted[role], role))
        counted[role] += 1
    return found
