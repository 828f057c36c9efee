"""The tables of a rotation, computed by the graph's own nodes.

cos and sin that depend on the positions alone are evaluated once, on every position: whatever rule the model
follows, its numbers are kept. A rule that also looks at the length of the call is measured: one that knows two
states (LongRoPE) becomes two tables and a threshold; one that changes with every length (dynamic NTK) cannot be
a table at all and stays in the graph.

A position may have several axes (M-RoPE: time, height and width of a patch). Each pair then follows one of them, and
the table is the same: row p of a pair's column is its turn at p, whichever axis p is read from.

Whatever was tabulated is then confirmed: for calls whose positions come in no order and differ between the rows of
the batch, the graph must compute exactly what the table holds for each token's own position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir

from rope_deploy.graph.analysis.data_movement import Marks
from rope_deploy.graph.analysis.dependence import POSITION_INPUT, Dependence
from rope_deploy.graph.analysis.dummy_inputs import SIZES, dummy_inputs
from rope_deploy.graph.analysis.evaluate import Trig, ancestors, evaluate
from rope_deploy.graph.analysis.half_precision import Shortened, half_angles, half_frequencies, loss
from rope_deploy.graph.analysis.influences import OTHERS, influences
from rope_deploy.graph.raising.match import Column, Match, NotARotation

CHUNK = 8192
# fmt: off
REDUCTIONS = frozenset({
    "ArgMax", "ArgMin", "CumSum", "Max", "Min", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "TopK",
})
# fmt: on
# PyTorch's and numpy's vectorised cosine may round the odd element of a short array differently.
CONFIRM_ULPS = 4


@dataclass(frozen=True)
class Table:
    """Half-width caches, [rows, rotary_dim/2], in the dtype the graph multiplies with.

    "table": row p belongs to position p. "two-tables": rows 0 … original−1 serve calls whose longest position is
    below `original`, the rows after them serve all positions of longer calls. "computed": no rows, see `Match`.
    `axes` [rotary_dim/2] says which axis of a position each pair follows; () where a position has one. `shortened`
    says what a half type cost on the way to the angles, None if nothing.
    """

    kind: Literal["table", "two-tables", "computed"]
    cos: np.ndarray
    sin: np.ndarray
    original: int = 0
    axes: tuple[int, ...] = ()
    shortened: Shortened | None = None


class Tabulator:
    """Evaluates the columns that matches ask for; factors shared by many sites are evaluated once."""

    def __init__(
        self, graph: ir.Graph, marks: Marks, max_position: int, cos: Trig | None = None, sin: Trig | None = None
    ):
        self._graph, self._marks, self._trig = graph, marks, {"cos": cos, "sin": sin}
        self._max = max_position
        self._axes = next((_axes(v) for v in graph.inputs if v.name == POSITION_INPUT), None)
        self._done: dict[tuple, Table] = {}

    def table(self, match: Match) -> Table:
        """The table of `match`. Raises NotARotation or NotEvaluable if its columns are no cos and sin of positions."""
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
                positions = _scattered(self._max)
                lost = loss(self._halves(match, positions), self._halves(match, positions, widened=True))
            else:
                lost = loss((table.cos, table.sin), self._rows(match, table.original, widened=True))
            if lost is not None:
                return Shortened("angles", dtype, *lost)
        if dtype := half_frequencies(factors, self._marks):
            return Shortened("frequencies", dtype)
        return None

    def _rows(self, match: Match, original: int, *, widened: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """All rows of a table, those of short calls, up to `original`, first."""
        last = self._caches(match, self._max, self._max, widened=widened)
        if not original:
            return last
        short = self._caches(match, original, original, widened=widened)
        return tuple(np.concatenate(pair) for pair in zip(short, last, strict=True))

    def _table(self, match: Match) -> Table:
        if also := sorted(influences(self._graph, factors_of(match)) - {OTHERS}):  # others are probed for below
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
        """The axis of a position that each pair follows; the first for a pair that stands still."""
        if self._axes is None:
            return ()
        rest = np.zeros((self._axes, 1, 2), np.int64)
        still = self._halves(match, rest)
        moved = []
        for axis in range(self._axes):
            along = rest.copy()
            along[axis, 0] = 1, self._max - 1
            turned = self._halves(match, along)
            moved.append(np.any([(a != b).any(axis=0) for a, b in zip(still, turned, strict=True)], axis=0))
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

    def _probe(self, match: Match, length: int) -> tuple[np.ndarray, np.ndarray]:
        """cos and sin of position 1 in a call whose longest position is length − 1."""
        cos, sin = self._halves(match, np.array([[1, length - 1]]))
        return cos[:1], sin[:1]

    def _caches(self, match: Match, rows: int, length: int, *, widened: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The half-width caches of positions 0 … rows−1 in calls of `length`."""
        parts = []
        for start in range(0, rows, CHUNK):
            # The last position rides along in every chunk, so that each chunk is a call of the full length.
            positions = np.append(np.arange(start, min(start + CHUNK, rows)), length - 1)
            parts.append(self._halves(match, positions[None], widened=widened))
        return tuple(np.concatenate([half[:-1] for half in halves]) for halves in zip(*parts, strict=True))

    def _halves(self, match: Match, positions: np.ndarray, *, widened: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The checked half-width cos and sin of `positions` [B, S], each [B·S, rotary_dim/2].

        Of positions with several axes, [A, B, S] may be given; else all axes are alike. `widened` as in `evaluate`.
        """
        factors = factors_of(match)
        batch, sequence = positions.shape[-2:]
        inputs = dummy_inputs(
            self._graph, {**SIZES, "batch": batch, "sequence": sequence, "total": sequence + SIZES["past"]}
        )
        for value, array in inputs.items():
            if value.name == POSITION_INPUT:
                if array.ndim != (2 if self._axes is None else 3):
                    raise NotARotation(f"its positions are {value.shape}, not [batch, sequence]")
                inputs[value] = np.broadcast_to(positions, array.shape).astype(array.dtype)
        arrays = evaluate(factors, inputs, **self._trig, widened=widened)
        return halves(match, dict(zip(factors, arrays, strict=True)), (batch, sequence))

    def _confirm(self, match: Match, table: Table) -> None:
        """Raise NotARotation unless the table holds what the graph computes, whichever positions a call brings."""
        if table.kind == "computed":
            self._halves(match, _scattered(self._max))
            _require_one_factor(match)
            return
        scattered = _scattered(self._max)
        if self._axes is not None:  # another order along each axis
            scattered = np.stack([np.roll(scattered, axis, axis=1) for axis in range(self._axes)])
        calls = [(scattered, table.original)]
        if table.kind == "two-tables":
            calls.append((_scattered(table.original), 0))
        slack = CONFIRM_ULPS * float(ml_dtypes.finfo(table.cos.dtype).eps)
        for positions, shift in calls:
            rows = positions.reshape(*positions.shape[:-2], -1) + shift
            for computed, cache in zip(self._halves(match, positions), (table.cos, table.sin), strict=True):
                stored = cache[rows].astype(np.float64)
                if table.axes:
                    stored = stored[list(table.axes), :, np.arange(len(table.axes))].T
                if not np.allclose(computed, stored, rtol=0, atol=slack * max(1.0, np.abs(stored).max())):
                    raise NotARotation("its table does not follow from each token's own position")


def _axes(positions: ir.Value) -> int | None:
    """How many axes a position has; None for one that is a single number."""
    shape = positions.shape
    return shape[0] if shape is not None and len(shape) == 3 and isinstance(shape[0], int) else None


def factors_of(match: Match) -> tuple[ir.Value, ...]:
    """The values that cos and sin of `match` are cut out of."""
    return tuple(dict.fromkeys(column.factor for column in match.cos + match.sin))


def halves(
    match: Match, arrays: Mapping[ir.Value, np.ndarray], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of `match`, each [B·S, rotary_dim/2], out of its evaluated factors; `shape` is (B, S).

    Raises NotARotation if they are not the same for all heads, or differ between the two elements of a pair.
    """
    rows = {factor: _per_token(array, shape, match.heads_axis) for factor, array in arrays.items()}
    return _half(_columns(match.cos, rows), "cosine"), _half(_columns(match.sin, rows), "sine")


def _require_one_factor(match: Match) -> None:
    """What stays in the graph is cut out of one value [B, 1, S, width] or [B, S, 1, width] for cos and one for sin."""
    for columns in (match.cos, match.sin):
        kinds = {(column.factor, column.sign) for column in columns[: match.rotary_dim // 2]}
        shape = columns[0].factor.shape
        if len(kinds) != 1 or shape is None or len(shape) != 4:
            raise NotARotation("it changes with the length of the call, and its cosines are not one tensor of 4 axes")


def _scattered(count: int) -> np.ndarray:
    """Positions [2, 3] below `count`, in no order, the largest among them, the rows different."""
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


def _same(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
