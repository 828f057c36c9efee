"""Where cos and sin of a site come from, and how they are computed at chosen positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.analysis.data_movement import Marks
from rope_deploy.graph.analysis.dependence import Dependence
from rope_deploy.graph.analysis.evaluate import HALF, NotEvaluable, ancestors, evaluate
from rope_deploy.graph.analysis.half_precision import TRIGONOMETRIC
from rope_deploy.graph.analysis.influences import influences
from rope_deploy.graph.raising.match import Match, NotARotation, with_batch
from rope_deploy.graph.raising.tabulate import factors_of, halves
from rope_deploy.graph.reading.example_calls import ExampleCalls
from rope_deploy.graph.reading.records import FoundTable, Positions, Precision, Unreadable

PRODUCTS = ("MatMul", "Gemm", "Einsum")
SPAN = 4096  # tokens in a call of a graph that takes the first position alone


@dataclass(frozen=True)
class TableSource:
    """The values that hold cos and sin of a site.

    Of a sum of products: `match` names the columns. Of an operator: `cos` and `sin` are half-width tables and
    `rows` the row of each token; without rows they are [B, S, R/2] ready made, or, `by_length`, tables whose rows
    the operator picks by the length of each sequence. `from_first`: rows [1] is the row of the first token, and the
    others follow it.
    """

    x: ir.Value | None
    match: Match | None = None
    cos: ir.Value | None = None
    sin: ir.Value | None = None
    rows: ir.Value | None = None
    by_length: bool = False
    from_first: bool = False

    @property
    def key(self) -> tuple:
        """Equal for sources that compute the same."""
        if self.match is not None:
            return self.match.cos, self.match.sin, self.match.heads_axis
        return self.cos, self.sin, self.rows, self.by_length

    @property
    def values(self) -> tuple[ir.Value, ...]:
        if self.match is not None:
            return factors_of(self.match)
        return tuple(value for value in (self.cos, self.sin, self.rows) if value is not None)

    @property
    def width(self) -> int | None:
        if self.match is not None:
            return self.match.rotary_dim // 2
        last = self.cos.shape[-1] if self.cos.shape else None
        return last if isinstance(last, int) else None

    @property
    def tokens(self) -> int | None:
        """How many tokens every call has, None where that differs or is unknown."""
        if self.match is not None:
            count = with_batch(self.match.source.shape)[self.match.sequence_axis]
        elif self.rows is not None and self.rows.shape is not None and len(self.rows.shape) == 2:
            count = self.rows.shape[1]
        else:
            count = self.cos.shape[-2] if self.rows is None and self.cos.shape and len(self.cos.shape) == 3 else None
        return count if isinstance(count, int) else None

    def halves(self, arrays: Mapping[ir.Value, np.ndarray], shape: tuple[int, int], positions: np.ndarray):
        """cos and sin [B·S, R/2] out of the evaluated values."""
        if self.match is not None:
            return halves(self.match, arrays, shape)
        cos, sin = arrays[self.cos], arrays[self.sin]
        indexed = self.by_length or self.rows is not None
        if any(table.ndim != 2 if indexed else table.ndim < 1 for table in (cos, sin)):
            raise Unreadable(f"its tables have {cos.ndim} and {sin.ndim} dimensions, not 2")
        if self.by_length:
            return cos[positions], sin[positions]
        if self.rows is not None:
            rows = arrays[self.rows]
            if rows.ndim == 1 and self.from_first:
                rows = rows[:1] + np.arange(shape[1])
            rows = np.broadcast_to(rows, shape).reshape(-1)
            if rows.min() < 0 or rows.max() >= len(cos):
                raise Unreadable(f"its table has {len(cos)} rows; row {rows.max()} is asked for")
            return cos[rows], sin[rows]
        return tuple(np.broadcast_to(a, (*shape, a.shape[-1])).reshape(-1, a.shape[-1]) for a in (cos, sin))


def read_table(source: TableSource, calls: ExampleCalls, marks: Marks) -> FoundTable:
    """The table of `source`. Raises Unreadable if it cannot be evaluated at all."""
    activations = _activations(source, marks)
    above = list(ancestors(source.values, activations))
    positions = _positions(source, above, calls)
    at = _evaluation(source, calls, activations, positions)
    computing = [node for node in above if node.op_type in TRIGONOMETRIC and marks.get(node.outputs[0])]
    stored = [] if computing else _stored(source, above)
    rows = _usable(at, min(map(_rows, stored)), counted=positions == "counted") if stored else None
    constants = tuple(sorted(value.name for value in stored))
    cos, _ = at(np.arange(min(2, rows or 2)), min(2, rows or 2))
    angles = [node.inputs[0] for node in above if node.op_type in TRIGONOMETRIC]
    product = next((node for node in ancestors(angles) if node.op_type in PRODUCTS), None) if angles else None
    return FoundTable(
        name=", ".join(constants or sorted(map(_name, computing))) or "constants",
        rows=rows,
        width=cos.shape[1],
        constants=constants,
        positions=positions,
        precision=_precision(source, cos.dtype.name, angles),
        at=at,
        nodes=tuple(_name(node) for node in computing),
        product=_name(product) if product is not None else None,
        follows=influences(calls.graph, source.values),
    )


def _positions(source: TableSource, above: list[ir.Node], calls: ExampleCalls) -> Positions:
    if source.by_length:
        return "lengths"
    reached = {value for node in above for value in node.inputs} | set(source.values)
    return "input" if calls.positions is not None and calls.positions in reached else "counted"


def _activations(source: TableSource, marks: Marks) -> set[ir.Value]:
    """Activations of which cos and sin take the shape; of their elements nothing follows."""
    shaping = (node.inputs[0] for node in ancestors(source.values) if node.op_type in ("Shape", "Size"))
    inner = (value for value in shaping if value is not None and not value.is_graph_input())
    return {value for value in inner if Dependence.ACTIVATION in marks.get(value, Dependence.NOTHING)}


def _evaluation(
    source: TableSource, calls: ExampleCalls, activations: set[ir.Value], positions_from: Positions
) -> Callable:
    fixed = calls.sequence if positions_from != "lengths" else None
    if calls.same_tokens and positions_from == "counted":
        fixed = source.tokens or fixed
    # Constants that nothing cuts to the length of the call: computed once, for the tokens of an example.
    gathered = source.rows is not None or positions_from != "counted"
    whole = [] if gathered else [value for value in source.values if is_row_table(value)]
    frozen = min(map(_rows, whole), default=0)

    def once(positions: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """cos and sin at `positions` [B, S], [B·S, R/2]."""
        batch, count = positions.shape
        try:
            wanted = source.values
            shaped = calls.shaped_like(activations, (batch, count), length)
            arrays = evaluate(wanted, {**shaped, **calls.inputs_at(positions, length)})
            shape = (batch, max(count, frozen))
            cos, sin = source.halves(dict(zip(wanted, arrays, strict=True)), shape, positions.reshape(-1))
        except (NotEvaluable, NotARotation, IndexError, ValueError) as reason:
            raise Unreadable(str(reason)) from None
        if frozen and count > frozen:
            raise Unreadable(f"it has rows for {frozen} tokens only")
        return cos[: positions.size], sin[: positions.size]

    def at(positions: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        positions = np.asarray(positions, np.int64)
        width = fixed or len(positions)
        if calls.same_tokens and positions_from == "counted" and positions.max(initial=0) >= width:
            raise Unreadable(f"it has rows for {width} tokens only")
        if calls.from_first and positions_from == "input":
            return _from_first(once, positions, length)
        padded = np.resize(positions, (-(-len(positions) // width), width))
        if calls.batch is None and positions_from == "input":
            parts = [once(padded, length)]  # rows instead of calls, where every call has the same few tokens
        else:
            parts = [once(np.tile(row, (calls.batch or 1, 1)), length) for row in padded]
            parts = [(cos[:width], sin[:width]) for cos, sin in parts]
        cos, sin = (np.concatenate(halves)[: len(positions)] for halves in zip(*parts, strict=True))
        return cos, sin

    return at


def _from_first(once: Callable, positions: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin at `positions` [P] of a graph that takes the first of a call: calls of SPAN tokens and fewer."""
    wanted, back = np.unique(positions, return_inverse=True)
    parts, number = [], 0
    while number < len(wanted):
        first = int(wanted[number])
        end = int(np.searchsorted(wanted, first + SPAN))
        call = np.arange(first, int(wanted[end - 1]) + 1)
        parts.append([half[wanted[number:end] - first] for half in once(call[None], length)])
        number = end
    cos, sin = (np.concatenate(halves)[back.reshape(-1)] for halves in zip(*parts, strict=True))
    return cos, sin


def _stored(source: TableSource, above: list[ir.Node]) -> list[ir.Value]:
    """The constants with a row a position that cos and sin are read from, however they are gathered or cut."""
    values = [*source.values, *(value for node in above for value in node.inputs if value is not None)]
    return [value for value in dict.fromkeys(values) if is_row_table(value)]


def is_row_table(value: ir.Value) -> bool:
    """Whether `value` is a constant with several rows of numbers."""
    if value.const_value is None or value.shape is None or not value.dtype.is_floating_point():
        return False
    return len(value.shape) > 1 and _rows(value) > 1


def _rows(table: ir.Value) -> int:
    # The last axis has the columns; [1, 1, M, D] and [1, M, 1, D] have their rows in the longest of the others.
    return max(int(dim) for dim in table.shape[:-1])


def _usable(at, most: int, *, counted: bool) -> int:
    """For how many positions from 0 on there are numbers; our own tables end in a row of NaN.

    Where tokens are counted, a position is that of the last of so many.
    """

    def serves(position: int) -> bool:
        try:
            halves = at(np.arange(0 if counted else position, position + 1), position + 1)
        except Unreadable:  # a position that the graph refuses is not served
            return False
        return all(bool(np.isfinite(half[-1].astype(np.float32)).all()) for half in halves)

    if serves(most - 1):
        return most
    low, high = -1, most - 1  # the last that serves, the first that does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if serves(middle) else (low, middle)
    if low < 0:
        at(np.zeros(1, np.int64), 1)  # raises Unreadable with the reason
    return low + 1


def _precision(source: TableSource, table: str, angles: list[ir.Value]) -> Precision:
    x = source.x.dtype if source.x is not None else None
    kinds = [value.dtype for value in angles if value.dtype is not None]
    half = next((HALF[kind] for kind in kinds if kind in HALF), None)
    frequencies = next(_half_frequencies(angles), "")
    name = half or (kinds[0].numpy().name if kinds else None)
    return Precision(table, None if x is None else str(x.numpy().name), name, frequencies)


def _half_frequencies(angles: list[ir.Value]) -> Iterator[str]:
    """The half types that constants above the angles went through."""
    for node in ancestors(angles):
        for value in node.inputs:
            if value is not None and value.const_value is not None and value.dtype in HALF:
                yield HALF[value.dtype]


def _name(node: ir.Node) -> str:
    return node.name or node.outputs[0].name
