"""What a lowering sees of one marker, and what it says about it afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from rope_deploy.graph.builder import Builder, replace
from rope_deploy.graph.lower.cache_rows import Rows, caches
from rope_deploy.graph.raising.raise_rotations import RaisedRotation


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
        return self.node.inputs[0]

    @property
    def positions(self) -> ir.Value:
        """Of each token: the graph's own, or what it was raised with."""
        return self.node.inputs[1]

    @property
    def output(self) -> ir.Value:
        return self.node.outputs[0]

    @property
    def prefix(self) -> str:
        """What the names of the nodes in its place begin with: rope/LAYER/ROLE/NUMBER, the marker's own."""
        return self.node.name.rpartition("/")[0]

    def builder(self) -> Builder:
        return Builder(self.node, self.prefix)

    def cache_and_rows(self, rows: Rows) -> tuple[ir.Value, ir.Value, ir.Value]:
        """cos_cache, sin_cache [M, R/2] and the row of each token [B, S], for a table and for run time alike."""
        if halves := self.per_token(rows):
            (cos, index), (sin, _) = (rows.tokens(half) for half in halves)
            return cos, sin, index
        cos, sin = caches(self.node.graph, self.rotation)
        return cos, sin, rows.of(self.rotation, self.positions)

    def per_token(self, rows: Rows) -> tuple[ir.Value, ir.Value] | None:
        """cos and sin [B, S, R/2] where a token has no row of a table to itself: computed at run time, or put together
        of several rows; None where it has."""
        if self.rotation.table.kind == "computed":
            return self.node.inputs[2], self.node.inputs[3]
        return rows.by_axes(self.rotation) if self.rotation.table.axes else None

    @property
    def layout(self) -> str:
        """How the axes of x lie."""
        return "BNSH" if self.heads_axis == 1 else "BSNH"

    def lowered(
        self, layout: str, x: ir.Value, y: ir.Value | None, *, present: str | None = None, scale: float | None = None
    ) -> LoweredSite:
        """What became of this site: `y`, None inside a fused operator, is `x` rotated, both in `layout`."""
        return LoweredSite(
            layer=self.layer,
            role=self.role,
            occurrence=self.occurrence,
            rotation=self.rotation.name,
            num_heads=self.num_heads,
            head_dim=self.head_dim,
            layout=layout,
            input=x,
            output=y,
            present=present,
            scale=scale,
        )

    def replace(self, rotated: ir.Value) -> None:
        """Everyone who used the marker's output uses `rotated`."""
        replace(self.output, rotated)


@dataclass(frozen=True)
class LoweredSite:
    """Where a rotation ended up: the values before and after it in the lowered graph, and how their axes lie.

    `output` is None when it lives only inside a fused attention operator; `present` and `scores` then say where
    its effect can be seen.
    """

    layer: int
    role: str
    occurrence: int
    rotation: str
    num_heads: int
    head_dim: int
    layout: str
    input: ir.Value | None
    output: ir.Value | None
    present: str | None = None
    scores: str | None = None
    scale: float | None = None
