"""What became of a site in a lowered graph."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from rope_deploy.graph.markers import MarkedSite


@dataclass(frozen=True)
class LoweredSite:
    """The values before and after a rotation in the lowered graph, and the order of their axes.

    `output` is None when it lives only inside a fused attention operator; `present` and `scores` then name the values
    that show its effect.
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

    @classmethod
    def of(
        cls,
        site: MarkedSite,
        layout: str,
        x: ir.Value,
        y: ir.Value | None,
        *,
        present: str | None = None,
        scale: float | None = None,
    ) -> LoweredSite:
        """`site` with `y`, None inside a fused operator, as the rotation of `x`, both in `layout`."""
        return cls(
            layer=site.layer,
            role=site.role,
            occurrence=site.occurrence,
            rotation=site.rotation.name,
            num_heads=site.num_heads,
            head_dim=site.head_dim,
            layout=layout,
            input=x,
            output=y,
            present=present,
            scale=scale,
        )
