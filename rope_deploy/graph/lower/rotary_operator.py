"""RotaryEmbedding in place of one marker: the standard operator (opset 23) or ONNX Runtime's.

They differ in the order of their inputs and in nothing else that matters here.
"""

from __future__ import annotations

import onnx_ir as ir

from rope_deploy.graph.builder import Builder
from rope_deploy.graph.head_layout import merged, split, swap, unswapped
from rope_deploy.graph.lower.cache_rows import Rows
from rope_deploy.graph.lower.lowered_site import LoweredSite
from rope_deploy.graph.markers import MarkedSite
from rope_deploy.graph.rotating_operators import CONTRIB, ROTARY_EMBEDDING, STANDARD


def lower_to_operator(site: MarkedSite, rows: Rows, domain: str) -> LoweredSite:
    """Replace a marker by RotaryEmbedding on [B, S, N·H] if the heads were split from it, else on [B, N, S, H]."""
    build = site.builder()
    before = site.x if site.heads_axis == 2 else unswapped(site.x)
    if before is None:
        rotated = _operator(build, site, site.x, rows, domain)
        site.replace(rotated)
        return LoweredSite.of(site, "BNSH", site.x, rotated)
    flat = merged(build, before, site.num_heads, site.head_dim)
    rotated = _operator(build, site, flat, rows, domain)
    result = split(build, rotated, site.num_heads, site.head_dim)
    site.replace(result if site.heads_axis == 2 else swap(build, result))
    return LoweredSite.of(site, "BS(NH)", flat, rotated)


def _operator(build: Builder, site: MarkedSite, x: ir.Value, rows: Rows, domain: str) -> ir.Value:
    cos, sin, index = rows.with_caches(site)
    inputs = (x, cos, sin, index) if domain == STANDARD else (x, index, cos, sin)
    partial = site.rotary_dim if site.rotary_dim < site.head_dim else 0
    attributes = {"interleaved": int(site.interleaved), "rotary_embedding_dim": partial}
    # ONNX Runtime's operator wants the heads also for a partial rotation of a 4-D tensor.
    if len(x.shape) == 3 or (partial and domain == CONTRIB):
        attributes["num_heads"] = site.num_heads
    return build.op(ROTARY_EMBEDDING, *inputs, domain=domain, dtype=x.dtype, shape=x.shape, **attributes)
