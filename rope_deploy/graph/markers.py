"""Markers: what every rotation of a graph is between raising and lowering.

    rope_deploy::Rope(x, position_ids[, cos, sin]) -> y
        rotation     which of the graph's distinct rotations (index into `Raised.rotations`)
        layer, role, occurrence
                     where it applies: role is "q" or "k"; see `rope_deploy.graph.analysis.site_names`
        heads_axis   1 for x [B, N, S, H], 2 for x [B, S, N, H]
        num_heads    N
        rotary_dim, interleaved

cos and sin, [B, S, rotary_dim/2], are present only where the rotation cannot be a table (`Table.kind` "computed").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.analysis.half_precision import Shortened
from rope_deploy.graph.builder import Builder, replace
from rope_deploy.graph.rotating_operators import DOMAIN, MARKER

CACHES = ("cos_cache", "sin_cache")  # what the names of the tables of a rotation end with


@dataclass(frozen=True)
class Table:
    """The half-width tables of a rotation, [rows, rotary_dim/2], in the dtype the graph multiplies with.

    "table": row p belongs to position p. "two-tables": rows 0 … original−1 serve calls whose longest position is
    below `original`, the rows after them serve all positions of longer calls. "computed": there are no rows; cos and
    sin are inputs of the marker. `axes` [rotary_dim/2] gives the axis of a position that each pair follows; () where
    a position is one number. `shortened` is what a half type cost on the way to the angles, None if nothing.
    """

    kind: Literal["table", "two-tables", "computed"]
    cos: np.ndarray
    sin: np.ndarray
    original: int = 0
    axes: tuple[int, ...] = ()
    shortened: Shortened | None = None


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
        """The markers of the graph, in the order in which they run."""
        return [node for node in self.model.graph if is_marker(node)]


def is_marker(node: ir.Node | None) -> bool:
    """Whether `node` is a marker."""
    return node is not None and (node.domain, node.op_type) == (DOMAIN, MARKER)


@dataclass(frozen=True)
class MarkedSite:
    """A marker node, read once. x is [B, N, S, H] (heads_axis 1) or [B, S, N, H] (heads_axis 2)."""

    node: ir.Node
    rotation: RaisedRotation
    layer: int
    role: str
    occurrence: int
    heads_axis: int
    num_heads: int
    head_dim: int
    rotary_dim: int
    interleaved: bool

    @classmethod
    def of(cls, node: ir.Node, rotations: Sequence[RaisedRotation]) -> MarkedSite:
        """The site of the marker `node`, whose rotation is one of `rotations`."""
        read = {name: attribute.value for name, attribute in node.attributes.items()}
        rotation = rotations[read["rotation"]]
        return cls(
            node=node,
            rotation=rotation,
            layer=read["layer"],
            role=read["role"],
            occurrence=read["occurrence"],
            heads_axis=read["heads_axis"],
            num_heads=read["num_heads"],
            head_dim=rotation.head_dim,
            rotary_dim=read["rotary_dim"],
            interleaved=bool(read["interleaved"]),
        )

    @property
    def x(self) -> ir.Value:
        """The tensor that is rotated."""
        return self.node.inputs[0]

    @property
    def positions(self) -> ir.Value:
        """The position of each token: the graph's input, or what the graph was raised with."""
        return self.node.inputs[1]

    @property
    def output(self) -> ir.Value:
        """The rotated tensor."""
        return self.node.outputs[0]

    @property
    def layout(self) -> str:
        """The order of the axes of x."""
        return "BNSH" if self.heads_axis == 1 else "BSNH"

    @property
    def prefix(self) -> str:
        """What the names of the nodes that replace the marker begin with: rope/LAYER/ROLE/NUMBER, its own name's."""
        return self.node.name.rpartition("/")[0]

    def builder(self) -> Builder:
        """A builder of nodes after the marker."""
        return Builder(self.node, self.prefix)

    def replace(self, rotated: ir.Value) -> None:
        """Everyone who used the marker's output uses `rotated`."""
        replace(self.output, rotated)
