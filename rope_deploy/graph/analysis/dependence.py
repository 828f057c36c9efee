"""Find what each value of a graph depends on: one forward pass, two bits a value.

Shapes do not count: a value computed only from the *shape* of an activation depends on neither.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Flag

import onnx_ir as ir

POSITION_INPUT = "position_ids"
COUNTING = ("Range", "CumSum")


class Dependence(Flag):
    NOTHING = 0
    POSITION = 1
    ACTIVATION = 2


def of_input(name: str) -> Dependence:
    """Positions are positions; masks are neither (they only hide); every other input is data."""
    if name == POSITION_INPUT:
        return Dependence.POSITION
    return Dependence.NOTHING if "mask" in name else Dependence.ACTIVATION


def dependences(
    graph: ir.Graph, *, tables: Collection[ir.Value] = (), counting: bool | None = None
) -> Mapping[ir.Value, Dependence]:
    """The dependence of every value; initializers and absent values have none and are not listed.

    A value that the graph counts (Range, CumSum) is a position. `counting` decides whether such values are looked for:
    True in any graph, False in none, None in a graph that takes no positions. `tables` are values that hold a row for
    each position, so that what is cut out of them depends on positions too.
    """
    marks: dict[ir.Value, Dependence] = {value: of_input(value.name) for value in graph.inputs}
    counts = Dependence.POSITION not in marks.values() if counting is None else counting
    marks |= dict.fromkeys(tables, Dependence.POSITION)
    for node in graph:
        mark = Dependence.POSITION if counts and node.op_type in COUNTING else Dependence.NOTHING
        if node.op_type not in ("Shape", "Size"):
            for value in node.inputs:
                if value is not None:
                    mark |= marks.get(value, Dependence.NOTHING)
        for output in node.outputs:
            marks[output] = mark | Dependence.POSITION if output in tables else mark
    return marks
