"""Trace data movement: operators that only copy, reorder or negate elements, and where the elements came from.

An index ramp sent through such a fragment comes out as a map: the absolute value at an index is the number of the
element of the source that went there, the sign is negative where it was negated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.analysis.dependence import Dependence

# fmt: off
MOVES = frozenset({
    "Concat", "Expand", "Flatten", "Gather", "Identity", "Neg", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
})
# fmt: on

Marks = Mapping[ir.Value, Dependence]


def moved_inputs(node: ir.Node, marks: Marks) -> list[ir.Value]:
    """The activations a movement node moves (its shapes and indices are left out)."""
    return [v for v in node.inputs if v is not None and Dependence.ACTIVATION in marks.get(v, Dependence.NOTHING)]


def origins(value: ir.Value, marks: Marks) -> list[ir.Value]:
    """`value` and everything it was moved from, nearest first."""
    found = {value: None}
    queue = [value]
    while queue:
        node = queue.pop(0).producer()
        if node is None or node.op_type not in MOVES:
            continue
        for source in moved_inputs(node, marks):
            if source not in found:
                found[source] = None
                queue.append(source)
    return list(found)


def common_origins(values: Sequence[ir.Value], marks: Marks) -> list[ir.Value]:
    """What all of `values` were moved from entirely, nearest first."""
    first, *others = [origins(value, marks) for value in values]
    shared = [value for value in first if all(value in chain for chain in others)]
    return [origin for origin in shared if all(_only_from(value, origin, marks) for value in values)]


def _only_from(value: ir.Value, source: ir.Value, marks: Marks) -> bool:
    """Whether every path back from `value` through movement ends in `source`."""
    stack, seen = [value], set()
    while stack:
        current = stack.pop()
        if current is source or current in seen:
            continue
        seen.add(current)
        node = current.producer()
        if node is None or node.op_type not in MOVES:
            return False
        stack.extend(moved_inputs(node, marks))
    return True


def ramp(shape: Sequence[int], start: int = 1) -> np.ndarray:
    """Distinct numbers from `start`, so that zero and the sign stay free. float64 holds them exactly."""
    count = int(np.prod(shape))
    return np.arange(start, start + count, dtype=np.float64).reshape(tuple(shape))
