"""How many ids a graph takes is read off the table that its tokens are looked up in."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from rope_deploy.graph.analysis.vocabulary import vocabulary

PLAIN = "x = Gather(table, input_ids)"
BODIES = {
    "a lookup": (PLAIN, 7),
    "a cast and a lookup": ("i = Cast<to = 6>(input_ids) x = Gather(table, i)", 7),
    "flat ids": ("flat = Constant<value_ints = [-1]>() i = Reshape(input_ids, flat) x = Gather(table, i)", 7),
    "two tables": (f"{PLAIN} y = Gather(small, input_ids)", 5),
    "shifted ids": ("two = Constant<value_int = 2>() i = Add(input_ids, two) x = Gather(table, i)", 5),
    "ids that wrap": ("five = Constant<value_int = 5>() i = Mod(input_ids, five) x = Gather(table, i)", 7),
    "columns of a table": ("x = Gather<axis = 1>(wide, input_ids)", 9),
    "a count of tokens": (
        f"{PLAIN} one = Constant<value_int = 1>() i = CumSum(input_ids, one) y = Gather(small, i)",
        7,
    ),
    "positions": (f"{PLAIN} y = Gather(small, position_ids)", 7),
    "no table": ("x = Cast<to = 1>(input_ids)", 11),
}


def graph(body: str, logits: str = "11") -> ir.Graph:
    text = f"""
        <ir_version: 10, opset_import: ["" : 18]>
        decoder (int64[b, s] input_ids, int64[b, s] position_ids) => (float[b, s, {logits}] logits)
        <float[7, 4] table, float[5, 4] small, float[4, 9] wide>
        {{ {body} logits = Identity(x) }}
    """
    return ir.from_proto(onnx.parser.parse_model(text)).graph


@pytest.mark.parametrize("kind", BODIES)
def test_the_ids_a_graph_takes_are_those_with_a_row(kind):
    body, ids = BODIES[kind]
    assert vocabulary(graph(body)) == ids


def test_without_a_table_and_a_width_nothing_is_known():
    assert vocabulary(graph(BODIES["no table"][0], "v")) is None
