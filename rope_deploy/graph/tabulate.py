"""The tables of a rotation, computed by the graph's own nodes.

cos and sin that depend on the positions alone are evaluated once, on every position: whatever rule the model
follows, its numbers are kept. A rule that also looks at the length of the call is measured: one that knows two
states (LongRoPE) becomes two tables and a threshold; one that changes with every length (dynamic NTK) cannot be
a table at all and stays in the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.dependence import POSITION_INPUT, Dependence
from rope_deploy.graph.evaluate import Trig, ancestors, evaluate
from rope_deploy.graph.movement import Marks
from rope_deploy.graph.rotation import Column, Match, NotARotation, dummy_inputs

CHUNK = 8192
REDUCTIONS = frozenset("ReduceMax ReduceMin ReduceSum ReduceMean ArgMax ArgMin TopK CumSum Max Min".split())


@dataclass(frozen=True)
class Table:
    """Half-width caches, [rows, rotary_dim/2], in the dtype the graph multiplies with.

    "table": row p belongs to position p. "two-tables": rows 0 … original−1 serve calls whose longest position is
    below `original`, the rows after them serve all positions of longer calls. "runtime": no rows, see `Match`.
    """

    kind: Literal["table", "two-tables", "runtime"]
    cos: np.ndarray
    sin: np.ndarray
    original: int = 0


class Tabulator:
    """Evaluates the columns that matches ask for; factors shared by many sites are evaluated once."""

    def __init__(
        self, graph: ir.Graph, marks: Marks, max_position: int, cos: Trig | None = None, sin: Trig | None = None
    ):
        self._graph, self._marks, self._trig = graph, marks, {"cos": cos, "sin": sin}
        self._max = max_position
        self._done: dict[tuple, Table] = {}

    def table(self, match: Match) -> Table:
        """The table of `match`. Raises NotARotation if its columns do not form cos and sin of a rotation."""
        key = (match.cos, match.sin)
        if key not in self._done:
            self._done[key] = self._table(match)
        return self._done[key]

    def _table(self, match: Match) -> Table:
        factors = tuple(dict.fromkeys(column.factor for column in match.cos + match.sin))
        if not self._looks_at_length(factors):
            return Table("table", *self._caches(match, factors, self._max, self._max))
        original = self._threshold(match, factors)
        if original is None:
            return Table("table", *self._caches(match, factors, self._max, self._max))
        after, far = (self._probe(match, factors, length) for length in (original + 1, self._max))
        middle = self._probe(match, factors, (original + 1 + self._max) // 2)
        if not (_same(after, far) and _same(middle, far)):
            empty = np.zeros((0, match.rotary_dim // 2), np.float32)
            return Table("runtime", empty, empty, original)
        short = self._caches(match, factors, original, original)
        long = self._caches(match, factors, self._max, self._max)
        cos, sin = (np.concatenate(pair) for pair in zip(short, long, strict=True))
        return Table("two-tables", cos, sin, original)

    def _looks_at_length(self, factors: Sequence[ir.Value]) -> bool:
        return any(
            node.op_type in REDUCTIONS and self._marks.get(node.outputs[0]) == Dependence.POSITION
            for node in ancestors(factors)
        )

    def _threshold(self, match: Match, factors: Sequence[ir.Value]) -> int | None:
        """The longest call length that still uses the first table; None if the length never matters."""
        first = self._probe(match, factors, 1)
        low, high = 1, self._max
        if _same(first, self._probe(match, factors, high)):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            if _same(first, self._probe(match, factors, middle)):
                low = middle
            else:
                high = middle
        return low

    def _probe(self, match: Match, factors: Sequence[ir.Value], length: int) -> tuple[np.ndarray, np.ndarray]:
        """cos and sin of position 1 in a call whose longest position is length − 1."""
        rows = self._rows(factors, np.array([1, length - 1]))
        return self._columns(match.cos, rows)[:1], self._columns(match.sin, rows)[:1]

    def _caches(self, match: Match, factors, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """The checked half-width caches of positions 0 … rows−1 in calls of `length`."""
        cos, sin = [], []
        for start in range(0, rows, CHUNK):
            # The last position rides along in every chunk, so that each chunk is a call of the full length.
            positions = np.append(np.arange(start, min(start + CHUNK, rows)), length - 1)
            values = self._rows(factors, positions)
            cos.append(_half(self._columns(match.cos, values)[:-1], "cosine"))
            sin.append(_half(self._columns(match.sin, values)[:-1], "sine"))
        return np.concatenate(cos), np.concatenate(sin)

    def _rows(self, factors: Sequence[ir.Value], positions: np.ndarray) -> Mapping[ir.Value, np.ndarray]:
        """Each factor on `positions`, as [len(positions), width]."""
        count = len(positions)
        sizes = {"batch": 1, "sequence": count, "past": 5, "total": count + 5}
        inputs = dummy_inputs(self._graph, sizes)
        inputs = {v: positions[None].astype(a.dtype) if v.name == POSITION_INPUT else a for v, a in inputs.items()}
        arrays = evaluate(factors, inputs, **self._trig)
        return {factor: _two_axes(array, count) for factor, array in zip(factors, arrays, strict=True)}

    @staticmethod
    def _columns(columns: Sequence[Column], rows: Mapping[ir.Value, np.ndarray]) -> np.ndarray:
        # A factor of width 1 is broadcast along the head.
        picked = [rows[c.factor][:, min(c.index, rows[c.factor].shape[1] - 1)] for c in columns]
        signs = [column.sign for column in columns]
        return np.stack([p if sign > 0 else -p for p, sign in zip(picked, signs, strict=True)], axis=1)


def _two_axes(array: np.ndarray, count: int) -> np.ndarray:
    if array.size != count * array.shape[-1]:
        raise NotARotation("its table differs between heads")
    return array.reshape(count, array.shape[-1])


def _half(doubled: np.ndarray, what: str) -> np.ndarray:
    """The first half of the columns, if the second half repeats it exactly."""
    first, second = np.split(doubled, 2, axis=1)
    if not np.array_equal(first, second, equal_nan=True):
        raise NotARotation(f"the two elements of a pair are multiplied by different {what}s")
    return np.ascontiguousarray(first)


def _same(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
