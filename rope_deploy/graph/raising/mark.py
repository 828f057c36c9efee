"""Put a marker where a rotation ends."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.analysis.site_names import SiteName
from rope_deploy.graph.builder import Builder, replace
from rope_deploy.graph.markers import Table
from rope_deploy.graph.raising.match import Column, Match, with_batch
from rope_deploy.graph.rotating_operators import DOMAIN, MARKER


def mark(match: Match, rotation: int, table: Table, positions: ir.Value, name: SiteName, number: int) -> None:
    """Insert the marker of `match` after its end, and let everyone who used that end use the marker.

    `rotation` is the index of its rotation, `number` that of the marker among all of its graph.
    """
    producer, source = match.root.producer(), match.source
    stem, inputs = f"rope/{name.layer}/{name.role}/{number}", [source, positions]
    if table.kind == "computed":
        build = Builder(producer, f"{stem}/table")
        inputs += [_computed_half(build, match, match.cos), _computed_half(build, match, match.sin)]
        producer = inputs[-1].producer()
    build = Builder(producer, stem)
    if match.order is not None:
        inputs[0] = build.op("Gather", source, build.ints(match.order), axis=-1, dtype=source.dtype, shape=source.shape)
    shape = with_batch(source.shape)
    lacks_batch = len(source.shape) < len(shape)
    if lacks_batch:
        inputs[0] = build.op("Unsqueeze", inputs[0], build.ints([0]), dtype=source.dtype, shape=shape)
    output = build.op(
        MARKER,
        *inputs,
        domain=DOMAIN,
        dtype=match.root.dtype,
        shape=shape,
        rotation=rotation,
        layer=name.layer,
        role=name.role,
        occurrence=name.occurrence,
        heads_axis=match.heads_axis,
        num_heads=match.num_heads,
        rotary_dim=match.rotary_dim,
        interleaved=int(match.interleaved),
    )
    if match.element_order is not None:
        back = np.argsort(match.element_order).tolist()
        output = build.op("Gather", output, build.ints(back), axis=-1, dtype=source.dtype, shape=shape)
    if lacks_batch:
        output = build.op("Squeeze", output, build.ints([0]), dtype=source.dtype, shape=source.shape)
    replace(match.root, output)


def _computed_half(build: Builder, match: Match, columns: tuple[Column, ...]) -> ir.Value:
    """cos or sin as the graph computes it, cut to half width: [B, S, rotary_dim/2]."""
    columns = columns[: match.rotary_dim // 2]
    factor, sign = columns[0].factor, columns[0].sign
    dtype, shape = factor.dtype, ["batch", "sequence", len(columns)]
    flat = build.op("Squeeze", factor, build.ints([match.heads_axis]), dtype=dtype)
    half = build.op("Gather", flat, build.ints([c.index for c in columns]), axis=-1, dtype=dtype, shape=shape)
    return half if sign > 0 else build.op("Neg", half, dtype=dtype, shape=shape)
