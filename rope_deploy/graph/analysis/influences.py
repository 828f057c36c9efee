"""Find what the numbers of a value follow from beside each token's own position: sizes, masks, other tokens.

A size that only shapes a tensor (what Expand, Reshape or the end of a Slice are given) is in none of its numbers. The
analysis is one pass over the nodes above the value and may name too much: what a mask is multiplied with follows from
it, whether or not the product is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from rope_deploy.graph.analysis.dependence import POSITION_INPUT
from rope_deploy.graph.analysis.evaluate import ancestors
from rope_deploy.graph.analysis.input_axes import axes_of

BATCH, TOKENS, OTHERS = "the size of the batch", "the number of tokens", "the positions of other tokens"
_OWN = "the token's own position"
# Inputs, by number, that set the size of a result and none of its numbers.
_SHAPING: Mapping[str, frozenset[int]] = {
    "ConstantOfShape": frozenset({0}),
    "Expand": frozenset({1}),
    "Range": frozenset({1}),  # where it ends
    "Reshape": frozenset({1}),
    "Slice": frozenset({2}),  # where it ends
    "Split": frozenset({1}),
    "Squeeze": frozenset({1}),
    "Tile": frozenset({1}),
    "Unsqueeze": frozenset({1}),
}
_OVER_TOKENS = frozenset({
    "ArgMax", "ArgMin", "CumProd", "CumSum", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "TopK",
})  # fmt: skip
_CUT = frozenset({"Gather", "Slice"})
_MOVED = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_FAR = 2**31 - 1  # an end of a Slice that stands for the end of the axis

Taint = frozenset[str]
_NOTHING: Taint = frozenset()


def influences(graph: ir.Graph, wanted: Sequence[ir.Value]) -> Taint:
    """What reaches `wanted` beside positions: BATCH, TOKENS, OTHERS, "the values of attention_mask".

    In a graph that takes no position_ids, lengths and masks are what positions are counted from, and are not named.
    """
    found = _Influences(graph).of_all(wanted) - {_OWN}
    counted = all(value.name != POSITION_INPUT for value in graph.inputs)
    return found & {BATCH} if counted else found


class _Influences:
    def __init__(self, graph: ir.Graph):
        self._kinds: dict[str, str] = {}
        for value in graph.inputs:
            for axis, kind in axes_of(value).items():
                if not isinstance(dim := value.shape[axis], int):
                    self._kinds.setdefault(str(dim.value), kind)
        self._reached: dict[ir.Value, Taint] = {}
        self._sizes: dict[ir.Value, tuple[Taint, ...]] = {}  # of a list of sizes, each by itself

    def of_all(self, wanted: Sequence[ir.Value]) -> Taint:
        for node in ancestors(wanted):
            if node.op_type in ("Shape", "Size"):
                self._sized(node)
                continue
            mark = frozenset[str]().union(*self._read(node))
            if node.inputs and node.inputs[0] and _OWN in self._of(node.inputs[0]) and _mixes(node):
                mark |= {OTHERS}
            self._reached |= dict.fromkeys(node.outputs, mark)
            if (parts := self._parts(node)) is not None:
                self._sizes[node.outputs[0]] = parts
                self._reached[node.outputs[0]] = _NOTHING.union(*parts)
        return _NOTHING.union(*map(self._of, wanted))

    def _read(self, node: ir.Node) -> Iterator[Taint]:
        shaping = _SHAPING.get(node.op_type, frozenset())
        return (self._of(value) for number, value in enumerate(node.inputs) if value and number not in shaping)

    def _of(self, value: ir.Value) -> Taint:
        if value in self._reached:
            return self._reached[value]
        if value.is_graph_input() and value.name == POSITION_INPUT:
            return frozenset({_OWN})
        return frozenset({f"the values of {value.name}"}) if value.is_graph_input() else _NOTHING

    def _sized(self, node: ir.Node) -> None:
        value, out = node.inputs[0], node.outputs[0]
        if value.shape is None:
            self._reached[out] = frozenset({TOKENS})
            return
        named = axes_of(value) if value.is_graph_input() else {}
        parts = tuple(self._size(dim, named.get(axis, "")) for axis, dim in enumerate(value.shape))
        if node.op_type == "Shape":
            first, last = (
                node.attributes[key].as_int() if key in node.attributes else None for key in ("start", "end")
            )
            self._sizes[out] = parts = parts[first:last]
        self._reached[out] = _NOTHING.union(*parts)

    def _size(self, dim: int | ir.SymbolicDim, kind: str) -> Taint:
        if isinstance(dim, int):
            return _NOTHING
        kind = kind or self._kinds.get(str(dim.value), str(dim.value))
        return frozenset({BATCH if kind == "batch" else TOKENS})

    def _parts(self, node: ir.Node) -> tuple[Taint, ...] | None:
        """The sizes in the list that `node` makes of lists of sizes; None if it makes none, or they are unknown."""
        if node.op_type == "Concat":
            lists = [self._list(value) for value in node.inputs]
            return None if None in lists else tuple(part for one in lists for part in one)
        parts = self._sizes.get(node.inputs[0]) if node.inputs else None
        if parts is None or node.op_type in _MOVED:
            return parts
        chosen = [None if value is None else _constants(value) for value in node.inputs[1:]]
        if node.op_type == "Gather" and chosen[0] is not None:
            return tuple(parts[number] for number in chosen[0] if -len(parts) <= number < len(parts))
        if node.op_type == "Slice" and None not in chosen and all(len(one) == 1 for one in chosen):
            first, last, *rest = (one[0] for one in chosen)
            return parts[first : last : rest[1] if len(rest) > 1 and rest[1] else 1]
        return None

    def _list(self, value: ir.Value | None) -> tuple[Taint, ...] | None:
        if value in self._sizes:
            return self._sizes[value]
        constants = None if value is None else _constants(value)
        return None if constants is None else (_NOTHING,) * len(constants)


def _mixes(node: ir.Node) -> bool:
    """Whether `node`, of values that follow from positions, makes one token's of another's."""
    if node.op_type in _OVER_TOKENS:
        return True
    if node.op_type not in _CUT:
        return False
    data = node.inputs[0]
    if node.op_type == "Slice":
        first, last, axes = (_constants(value) if value else None for value in (*node.inputs[1:4], None)[:3])
        if first is not None and last is not None and set(first) == {0} and all(end >= _FAR for end in last):
            return False
        axes = axes if axes is not None else list(range(len(first or ())))
    else:
        if _counts_up(node.inputs[1]):  # each token its own row, as where tables are made for one call
            return False
        axes = [node.attributes["axis"].as_int() if "axis" in node.attributes else 0]
    if data.shape is None:  # features are floating; positions, before angles are made of them, are whole
        return data.dtype is not None and data.dtype.is_integer()
    return any(not isinstance(data.shape[axis], int) for axis in axes if -len(data.shape) <= axis < len(data.shape))


def _counts_up(value: ir.Value | None) -> bool:
    """Whether `value` is 0, 1, 2, …, in whatever shape."""
    while value is not None and (node := value.producer()) is not None and node.op_type in _MOVED:
        value = node.inputs[0]
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "Range":
        return False
    return [_constants(one) if one else None for one in (node.inputs[0], node.inputs[2])] == [[0], [1]]


def _constants(value: ir.Value) -> list[int] | None:
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else [int(one) for one in tensor.numpy().reshape(-1)]
