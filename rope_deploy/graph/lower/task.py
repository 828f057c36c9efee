"""What the lowering of a style is given."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from rope_deploy.graph.lower.cache_rows import Rows
from rope_deploy.graph.markers import MarkedSite, Raised


@dataclass(frozen=True)
class LoweringTask:
    """A raised graph, to be changed in place. `rows` are shared by all sites.

    `opset` is the one that the rest of the graph is written for. `fused_attention` allows operators that take a whole
    attention.
    """

    raised: Raised
    rows: Rows
    opset: int
    fused_attention: bool

    @property
    def model(self) -> ir.Model:
        """The graph."""
        return self.raised.model

    def sites(self) -> list[MarkedSite]:
        """The markers that are left, in the order in which they run."""
        return [MarkedSite.of(node, self.raised.rotations) for node in self.raised.markers()]
