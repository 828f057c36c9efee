"""Style tables: standard operators only. Two table rows are gathered once for all layers, then each site is a
multiply-add; see `rope_deploy.graph.standard_rotation`."""

from __future__ import annotations

import onnx_ir as ir

from rope_deploy.graph.builder import Builder
from rope_deploy.graph.lower.cache_rows import Rows
from rope_deploy.graph.lower.lowered_site import LoweredSite
from rope_deploy.graph.lower.task import LoweringTask
from rope_deploy.graph.markers import MarkedSite
from rope_deploy.graph.standard_rotation import full_width, rotate


def lower_to_tables(task: LoweringTask) -> list[LoweredSite]:
    """Replace every marker of `task` by standard operators."""
    factors = _Factors(task.rows)
    return [_lower(site, *factors.of(site)) for site in task.sites()]


def _lower(site: MarkedSite, c: ir.Value, s: ir.Value) -> LoweredSite:
    rotated = rotate(site.builder(), site.x, c, s, site.head_dim, site.rotary_dim, site.interleaved)
    site.replace(rotated)
    return LoweredSite.of(site, site.layout, site.x, rotated)


class _Factors:
    """C and S of `full_width`, [B, 1, S, R] or [B, S, 1, R], made once for all sites that rotate alike."""

    def __init__(self, rows: Rows):
        self._rows, self._made = rows, {}

    def of(self, site: MarkedSite) -> tuple[ir.Value, ir.Value]:
        key = (site.rotation.name, site.heads_axis, site.positions)
        if key not in self._made:
            name = f"rope/{site.rotation.name}/{site.heads_axis}/{len(self._made)}"
            if halves := self._rows.per_token(site):
                cos, sin = halves
                build = Builder(sin.producer(), name)
            else:
                cos, sin, index = self._rows.with_caches(site)
                build = Builder(index.producer(), name)
                cos, sin = (build.op("Gather", cache, index, axis=0, dtype=cache.dtype) for cache in (cos, sin))
            self._made[key] = full_width(build, cos, sin, site.heads_axis, site.interleaved)
        return self._made[key]
