"""The caches of a rotation as initializers, and the row of each token.

One contract for every style: a position outside the table never reads outside it. The caches have one row more
than the table, filled with NaN, and every position below 0 or beyond the table is sent there: its token's output
is visibly not a number in every runtime, where the operators alone would raise, clamp, wrap or pass the token
through unrotated, depending on who runs them. A rotation computed at run time has no table and no outside.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.analysis.dependence import POSITION_INPUT
from rope_deploy.graph.builder import Builder, constant
from rope_deploy.graph.markers import CACHES, MarkedSite, RaisedRotation


def caches(graph: ir.Graph, rotation: RaisedRotation) -> tuple[ir.Value, ir.Value]:
    """cos_cache and sin_cache, [rows + 1, rotary_dim/2], the last row NaN; made once and shared by all sites."""
    made = []
    for name, array in zip(_names(rotation), (rotation.table.cos, rotation.table.sin), strict=True):
        if name not in graph.initializers:
            guarded = np.concatenate([array, np.full((1, array.shape[1]), np.nan, array.dtype)])
            constant(graph, guarded, name)
        made.append(graph.initializers[name])
    return made[0], made[1]


def cache_names(model: ir.Model, rotation: RaisedRotation) -> tuple[str | None, str | None]:
    """The names of the rotation's caches in a lowered graph, None where it has none."""
    cos, sin = (name if name in model.graph.initializers else None for name in _names(rotation))
    return cos, sin


def _names(rotation: RaisedRotation) -> tuple[str, ...]:
    return tuple(f"{rotation.name}.{ending}" for ending in CACHES)


class Rows:
    """Row indices [B, S], int64, one value a rotation, made once at the top of the graph.

    Where a position has A axes they are [A, B, S], and `by_axes` makes cos and sin of each token of them. Positions are
    those of the graph's input, or, in a graph without one, those of a marker.
    """

    def __init__(self, graph: ir.Graph):
        self._graph = graph
        self._positions = next((value for value in graph.inputs if value.name == POSITION_INPUT), None)
        self._build = Builder(graph[0], "rope/rows", after=False)
        self._made: dict[tuple, ir.Value] = {}

    def with_caches(self, site: MarkedSite) -> tuple[ir.Value, ir.Value, ir.Value]:
        """cos_cache, sin_cache [M, R/2] and the row of each token [B, S], for every kind of table."""
        if halves := self.per_token(site):
            (cos, index), (sin, _) = (self.tokens(half) for half in halves)
            return cos, sin, index
        cos, sin = caches(site.node.graph, site.rotation)
        return cos, sin, self.of(site.rotation, site.positions)

    def per_token(self, site: MarkedSite) -> tuple[ir.Value, ir.Value] | None:
        """cos and sin [B, S, R/2] where a token has no row of a table to itself, None where it has.

        They are computed while the graph runs, or put together of several rows.
        """
        if site.rotation.table.kind == "computed":
            return site.node.inputs[2], site.node.inputs[3]
        return self.by_axes(site.rotation) if site.rotation.table.axes else None

    def of(self, rotation: RaisedRotation, positions: ir.Value | None = None) -> ir.Value:
        """The row of each token in the caches of `rotation`; the NaN row where its position is outside."""
        positions = self._positions if positions is None else positions
        key = (rotation.max_position, rotation.table.kind, rotation.table.original, positions)
        if key not in self._made:
            self._made[key] = self._guarded(rotation, positions)
        return self._made[key]

    def _guarded(self, rotation: RaisedRotation, positions: ir.Value) -> ir.Value:
        op, scalar = self._build.op, self._scalar
        shape, integer, boolean = positions.shape, ir.DataType.INT64, ir.DataType.BOOL
        if positions.dtype != integer:
            positions = op("Cast", positions, to=integer, dtype=integer, shape=shape)
        inside = op(
            "And",
            op("GreaterOrEqual", positions, scalar(0), dtype=boolean, shape=shape),
            op("Less", positions, scalar(rotation.max_position), dtype=boolean, shape=shape),
            dtype=boolean,
            shape=shape,
        )
        row = positions
        if rotation.table.kind == "two-tables":
            # The longer table follows the shorter one; which of them serves depends on the whole call.
            longest = op("ReduceMax", positions, keepdims=0, dtype=integer, shape=[])
            long_call = op("GreaterOrEqual", longest, scalar(rotation.table.original), dtype=boolean, shape=[])
            shift = op("Where", long_call, scalar(rotation.table.original), scalar(0), dtype=integer, shape=[])
            row = op("Add", positions, shift, dtype=integer, shape=shape)
        return op("Where", inside, row, scalar(len(rotation.table.cos)), dtype=integer, shape=shape)

    def tokens(self, half: ir.Value) -> tuple[ir.Value, ir.Value]:
        """For a rotation computed at run time: its [B, S, R/2] as a table with a row a token, and those rows."""
        key = ("tokens",)
        op, integer = self._build.op, ir.DataType.INT64
        if key not in self._made:
            tokens = self._positions
            if len(tokens.shape) == 3:
                tokens = op("Gather", tokens, self._scalar(0), axis=0, dtype=integer, shape=tokens.shape[1:])
            count = op("Size", tokens, dtype=integer, shape=[])
            flat = op("Range", self._scalar(0), count, self._scalar(1), dtype=integer, shape=[None])
            shape = op("Shape", tokens, dtype=integer, shape=[2])
            self._made[key] = op("Reshape", flat, shape, dtype=integer, shape=tokens.shape)
        build = Builder(half.producer(), f"{half.name}/table")
        table = build.op("Reshape", half, build.ints([-1, half.shape[-1]]), dtype=half.dtype)
        return table, self._made[key]

    def by_axes(self, rotation: RaisedRotation) -> tuple[ir.Value, ir.Value]:
        """cos and sin of each token, [B, S, R/2], every pair at the position of the axis it follows."""
        key = ("by axes", rotation.name)
        if key not in self._made:
            rows = self.of(rotation)
            self._made[key] = tuple(
                self._picked(cache, rows, rotation.table.axes) for cache in caches(self._graph, rotation)
            )
        return self._made[key]

    def _picked(self, cache: ir.Value, rows: ir.Value, axes: tuple[int, ...]) -> ir.Value:
        op, width, dtype = self._build.op, len(axes), cache.dtype
        shape = [*rows.shape[1:], width]
        every = op("Gather", cache, rows, axis=0, dtype=dtype, shape=[*rows.shape, width])
        first, *others = sorted(set(axes))
        picked = op("Gather", every, self._scalar(first), axis=0, dtype=dtype, shape=shape)
        for axis in others:
            mine = self._build.constant(np.array([a == axis for a in axes]))
            own = op("Gather", every, self._scalar(axis), axis=0, dtype=dtype, shape=shape)
            picked = op("Where", mine, own, picked, dtype=dtype, shape=shape)
        return picked

    def _scalar(self, number: int) -> ir.Value:
        return self._build.constant(np.array(number, np.int64), f"int_{number}")
