"""Lower markers to standard operators: two table rows gathered once for all layers, then a multiply-add a site.

    y = x · C + swapped(x) · S     C = [c, c], S = [−s, s] (half-split) or their interleaved equivalents

`swapped` exchanges the two elements of every pair by viewing the head as [2, R/2] (or [R/2, 2]) and gathering
that axis in reverse. Of the spellings measured on ONNX Runtime's CPU this is the fastest; slicing, negating and
concatenating halves, as models write it, takes up to a quarter longer.
"""

from __future__ import annotations

import onnx_ir as ir

from rope_deploy.graph.builder import Builder
from rope_deploy.graph.lower.cache_rows import Rows
from rope_deploy.graph.lower.marked_site import LoweredSite, MarkedSite

PAIR_FIRST, PAIR_LAST = 3, 4


class Spread:
    """C and S, [B, 1, S, R] or [B, S, 1, R], made once for all sites that rotate alike."""

    def __init__(self, rows: Rows):
        self._rows, self._made = rows, {}

    def of(self, site: MarkedSite) -> tuple[ir.Value, ir.Value]:
        key = (site.rotation.name, site.heads_axis, site.positions)
        if key not in self._made:
            name = f"rope/{site.rotation.name}/{site.heads_axis}/{len(self._made)}"
            if halves := site.per_token(self._rows):
                cos, sin = halves
                build = Builder(sin.producer(), name)
            else:
                cos, sin, index = site.cache_and_rows(self._rows)
                build = Builder(index.producer(), name)
                cos, sin = (build.op("Gather", cache, index, axis=0, dtype=cache.dtype) for cache in (cos, sin))
            self._made[key] = spread(build, cos, sin, site.heads_axis, site.interleaved)
        return self._made[key]


def spread(
    build: Builder, cos: ir.Value, sin: ir.Value, heads_axis: int, interleaved: bool
) -> tuple[ir.Value, ir.Value]:
    """Half-width rows [B, S, R/2] as C and S of full width with an axis for the heads."""
    dtype = cos.dtype
    negative = build.op("Neg", sin, dtype=dtype)
    pair = []
    for first, second in ((cos, cos), (negative, sin)):
        if interleaved:
            last = build.ints([-1])
            columns = [build.op("Unsqueeze", half, last, dtype=dtype) for half in (first, second)]
            stacked = build.op("Concat", *columns, axis=-1, dtype=dtype)
            full = build.op("Reshape", stacked, build.ints([0, 0, -1]), dtype=dtype)
        else:
            full = build.op("Concat", first, second, axis=-1, dtype=dtype)
        pair.append(build.op("Unsqueeze", full, build.ints([heads_axis]), dtype=dtype))
    return pair[0], pair[1]


def rotate(
    build: Builder, x: ir.Value, c: ir.Value, s: ir.Value, head_dim: int, rotary_dim: int, interleaved: bool
) -> ir.Value:
    """The rotation of x [.., .., .., head_dim] in standard operators; c and s broadcast over the heads."""
    dtype, shape = x.dtype, x.shape
    rest = None
    if rotary_dim < head_dim:
        widths = build.ints([rotary_dim, head_dim - rotary_dim])
        x, rest = build.ops("Split", x, widths, axis=-1, outputs=[(None, dtype, None), (None, dtype, None)])
    axis, view = (PAIR_LAST, [rotary_dim // 2, 2]) if interleaved else (PAIR_FIRST, [2, rotary_dim // 2])
    pairs = build.op("Reshape", x, build.ints([0, 0, 0, *view]), dtype=dtype)
    reversed_pairs = build.op("Gather", pairs, build.ints([1, 0]), axis=axis, dtype=dtype)
    swapped = build.op("Reshape", reversed_pairs, build.ints([0, 0, 0, rotary_dim]), dtype=dtype)
    kept = build.op("Mul", x, c, dtype=dtype)
    turned = build.op("Mul", swapped, s, dtype=dtype)
    y = build.op("Add", kept, turned, dtype=dtype, shape=shape if rest is None else None)
    return y if rest is None else build.op("Concat", y, rest, axis=-1, dtype=dtype, shape=shape)


def lower_to_tables(site: MarkedSite, spreads: Spread) -> LoweredSite:
    c, s = spreads.of(site)
    rotated = rotate(site.builder(), site.x, c, s, site.head_dim, site.rotary_dim, site.interleaved)
    site.replace(rotated)
    return site.lowered(site.layout, site.x, rotated)
