"""The tables of a rotation, computed by the graph's own nodes.

cos and sin that depend on the positions alone are evaluated once, on every position: whatever rule the model
follows, its numbers are kept. A rule that also looks at the length of the call is measured: one that knows two
states (LongRoPE) becomes two tables and a threshold; one that changes with every length (dynamic NTK) cannot be
a table at all and stays in the graph.

A position may have several axes (M-RoPE: time, height and width of a patch). Each pair then follows one of them, and
the table is the same: row p of a pair's column belongs to coordinate p, whichever axis it is read from.

How a call is evaluated, and how a finished table is confirmed, is the position source's part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.analysis.data_movement import Marks
from rope_deploy.graph.analysis.dependence import Dependence
from rope_deploy.graph.analysis.evaluate import ancestors
from rope_deploy.graph.analysis.half_precision import Shortened, half_angles, half_frequencies, loss
from rope_deploy.graph.analysis.influences import OTHERS, influences
from rope_deploy.graph.markers import Table
from rope_deploy.graph.raising.match import Column, Match, NotARotation

CHUNK = 8192
# fmt: off
REDUCTIONS = frozenset({
    "ArgMax", "ArgMin", "CumSum", "Max", "Min", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "TopK",
})
# fmt: on
# PyTorch's and numpy's vectorised cosine may round the odd element of a short array differently.
CONFIRM_ULPS = 4


Halves = tuple[np.ndarray, np.ndarray]  # cos and sin, each [tokens, rotary_dim/2]


class Evaluated(Protocol):
    """cos and sin of a match at `positions` [B, S] (or [A, B, S]); `widened` as in `evaluate`."""

    def __call__(self, match: Match, positions: np.ndarray, *, widened: bool = False) -> Halves: ...


class Tabulator:
    """Evaluates the columns that matches ask for; factors shared by many sites are evaluated once."""

    def __init__(
        self,
        graph: ir.Graph,
        marks: Marks,
        max_position: int,
        evaluated: Evaluated,
        confirm: Callable[[Match, Table], None],
        *,
        axes: int | None = None,
    ):
        """`confirm` raises NotARotation for a table that is not what the graph computes; `axes` a position has."""
        self._graph, self._marks, self._max, self._axes = graph, marks, max_position, axes
        self._halves, self._confirm = evaluated, confirm
        self._done: dict[tuple, Table] = {}

    def table(self, match: Match) -> Table:
        """The confirmed table of `match`; see `PositionSource.table` for what it raises."""
        key = (match.cos, match.sin, match.heads_axis)
        if key not in self._done:
            table = self._table(match)
            self._confirm(match, table)
            self._done[key] = replace(table, shortened=self._shortened(match, table))
        return self._done[key]

    def _shortened(self, match: Match, table: Table) -> Shortened | None:
        factors = factors_of(match)
        if dtype := half_angles(factors, self._marks):
            if table.kind == "computed":
                positions = scattered(self._max)
                lost = loss(self._halves(match, positions), self._halves(match, positions, widened=True))
            else:
                lost = loss((table.cos, table.sin), self._rows(match, table.original, widened=True))
            if lost is not None:
                return Shortened("angles", dtype, *lost)
        if dtype := half_frequencies(factors, self._marks):
            return Shortened("frequencies", dtype)
        return None

    def _rows(self, match: Match, original: int, *, widened: bool = False) -> Halves:
        """All rows of a table, those of short calls, up to `original`, first."""
        last = self._caches(match, self._max, self._max, widened=widened)
        if not original:
            return last
        short = self._caches(match, original, original, widened=widened)
        return tuple(np.concatenate(pair) for pair in zip(short, last, strict=True))

    def _table(self, match: Match) -> Table:
        if also := sorted(influences(self._graph, factors_of(match)) - {OTHERS}):  # other tokens are probed below
            raise NotARotation(f"its table follows from {also[0]} too, not from each token's own position alone")
        original = self._threshold(match) if self._looks_at_length(match) else None
        if original is None:
            return Table("table", *self._rows(match, 0), axes=self._followed(match))
        if self._axes is not None:
            raise NotARotation("it changes with the length of the call, and its positions have several axes")
        after, middle, far = (
            self._probe(match, length) for length in (original + 1, (original + 1 + self._max) // 2, self._max)
        )
        if not (_same(after, far) and _same(middle, far)):
            empty = np.zeros((0, match.rotary_dim // 2), np.float32)
            return Table("computed", empty, empty, original)
        return Table("two-tables", *self._rows(match, original), original)

    def _followed(self, match: Match) -> tuple[int, ...]:
        """The axis of a position that each pair follows; the first for a pair whose angle never changes."""
        if self._axes is None:
            return ()
        rest = np.zeros((self._axes, 1, 2), np.int64)
        still = self._halves(match, rest)
        moved = []
        for axis in range(self._axes):
            along = rest.copy()
            along[axis, 0] = 1, self._max - 1
            there = self._halves(match, along)
            moved.append(np.any([(a != b).any(axis=0) for a, b in zip(still, there, strict=True)], axis=0))
        if (np.sum(moved, axis=0) > 1).any():
            raise NotARotation("a pair follows more than one axis of the positions")
        return tuple(np.argmax(moved, axis=0).tolist())

    def _looks_at_length(self, match: Match) -> bool:
        return any(
            node.op_type in REDUCTIONS and self._marks.get(node.outputs[0]) == Dependence.POSITION
            for node in ancestors(factors_of(match))
        )

    def _threshold(self, match: Match) -> int | None:
        """The longest call length that still uses the first table; None if the length never matters."""
        low, high = 2, self._max
        first = self._probe(match, low)
        if high <= low or _same(first, self._probe(match, high)):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            if _same(first, self._probe(match, middle)):
                low = middle
            else:
                high = middle
        return low

    def _probe(self, match: Match, length: int) -> Halves:
        """cos and sin of position 1 in a call whose longest position is length − 1."""
        cos, sin = self._halves(match, np.array([[1, length - 1]]))
        return cos[:1], sin[:1]

    def _caches(self, match: Match, rows: int, length: int, *, widened: bool = False) -> Halves:
        """The half-width caches of positions 0 … rows−1 in calls of `length`."""
        parts = []
        for start in range(0, rows, CHUNK):
            # Every chunk also has the last position, so that each is a call of the full length.
            positions = np.append(np.arange(start, min(start + CHUNK, rows)), length - 1)
            parts.append(self._halves(match, positions[None], widened=widened))
        return tuple(np.concatenate([half[:-1] for half in halves]) for halves in zip(*parts, strict=True))


def factors_of(match: Match) -> tuple[ir.Value, ...]:
    """The values that cos and sin of `match` are cut out of."""
    return tuple(dict.fromkeys(column.factor for column in match.cos + match.sin))


def halves(match: Match, arrays: Mapping[ir.Value, np.ndarray], shape: tuple[int, ...]) -> Halves:
    """cos and sin of `match`, each [B·S, rotary_dim/2], out of its evaluated factors; `shape` is (B, S).

    Raises NotARotation if they are not the same for all heads, or differ between the two elements of a pair.
    """
    rows = {factor: _per_token(array, shape, match.heads_axis) for factor, array in arrays.items()}
    return _half(_columns(match.cos, rows), "cosine"), _half(_columns(match.sin, rows), "sine")


def scattered(count: int) -> np.ndarray:
    """Positions [2, 3] below `count`: in no order, with the largest among them, different in both sequences."""
    last = count - 1
    return np.array([[last, 0, count // 2], [count // 3, last, min(1, last)]])


def _per_token(array: np.ndarray, shape: tuple[int, ...], heads_axis: int) -> np.ndarray:
    """A factor, [B, 1, S, width] or [B, S, 1, width] or what broadcasts to it, as [B·S, width]."""
    if array.ndim > 4:
        raise NotARotation(f"its table has {array.ndim} axes; more than batch, heads, sequence and head_dim")
    wide = array.reshape((1,) * (4 - array.ndim) + array.shape)
    first = wide.take([0], axis=heads_axis)
    if not np.array_equal(wide, np.broadcast_to(first, wide.shape), equal_nan=True):
        raise NotARotation("its table differs between heads")
    rows = first.squeeze(heads_axis)
    if any(have not in (1, want) for have, want in zip(rows.shape, shape, strict=False)):
        raise NotARotation(f"its table, {list(array.shape)}, does not have a row for each of {shape[1]} tokens")
    return np.broadcast_to(rows, (*shape, rows.shape[-1])).reshape(-1, rows.shape[-1])


def _columns(columns: Sequence[Column], rows: Mapping[ir.Value, np.ndarray]) -> np.ndarray:
    # A factor of width 1 is broadcast along the head.
    picked = [rows[c.factor][:, min(c.index, rows[c.factor].shape[1] - 1)] for c in columns]
    signs = [column.sign for column in columns]
    return np.stack([p if sign > 0 else -p for p, sign in zip(picked, signs, strict=True)], axis=1)


def _half(doubled: np.ndarray, what: str) -> np.ndarray:
    """The first half of the columns, if the second half repeats it exactly."""
    first, second = np.split(doubled, 2, axis=1)
    if not np.array_equal(first, second, equal_nan=True):
        raise NotARotation(f"the two elements of a pair are multiplied by different {what}s")
    return np.ascontiguousarray(first)


def _same(one: Halves, other: Halves) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
