"""What reaches a value as a number, beside each token's own position; what only shapes it does not."""

import onnx
import onnx_ir as ir
import pytest

from rope_deploy.graph.analysis.influences import BATCH, OTHERS, TOKENS, influences

MASK = "the values of attention_mask"
HEAD = "int64[batch, sequence] position_ids, int64[batch, total] attention_mask"
CASES = {
    "itself": ("y = Identity(position_ids)", set()),
    "clamped": ("lo = Constant<value_int = 0>() y = Max(position_ids, lo)", set()),
    "expanded": ("s = Shape(attention_mask) u = Constant<value_ints = [0]>() v = Gather(s, u)"
                 " w = Concat<axis = 0>(v, v) c = Constant<value_ints = [1]>() y = Expand(c, w)", set()),
    "batch": ("s = Shape<start = 0, end = 1>(position_ids) y = Add(position_ids, s)", {BATCH}),
    "batch-gathered": ("s = Shape(attention_mask) i = Constant<value_int = 0>() n = Gather(s, i)"
                       " y = Add(position_ids, n)", {BATCH}),
    "tokens": ("s = Shape<start = 1>(position_ids) y = Add(position_ids, s)", {TOKENS}),
    "total": ("s = Shape(attention_mask) i = Constant<value_ints = [-1]>() n = Gather(s, i)"
              " y = Add(position_ids, n)", {TOKENS}),
    "size": ("s = Size(position_ids) y = Add(position_ids, s)", {BATCH, TOKENS}),
    "through-a-concat": ("s = Shape(position_ids) o = Constant<value_ints = [7]>() c = Concat<axis = 0>(o, s)"
                         " z = Constant<value_ints = [0]>() n = Gather(c, z) y = Add(position_ids, n)", set()),
    "counted-up": ("a = Constant<value_int = 0>() s = Shape<start = 1>(position_ids) n = Squeeze(s)"
                   " d = Constant<value_int = 1>() r = Range(a, n, d) y = Add(position_ids, r)", set()),
    "counted-from": ("s = Shape<start = 1>(position_ids) n = Squeeze(s) e = Constant<value_int = 99>()"
                     " d = Constant<value_int = 1>() r = Range(n, e, d) y = Add(position_ids, r)", {TOKENS}),
    "mask": ("y = Mul(position_ids, attention_mask)", {MASK}),
    "longest": ("m = ReduceMax<keepdims = 0>(position_ids) y = Add(position_ids, m)", {OTHERS}),
    "first": ("z = Constant<value_ints = [0]>() f = Gather<axis = 1>(position_ids, z)"
              " y = Add(position_ids, f)", {OTHERS}),
    "first-row": ("a = Constant<value_ints = [0]>() b = Constant<value_ints = [1]>() f = Slice(position_ids, a, b, a)"
                  " y = Add(position_ids, f)", {OTHERS}),
    "each-its-own": ("a = Constant<value_int = 0>() n = Constant<value_int = 8>() d = Constant<value_int = 1>()"
                     " r = Range(a, n, d) y = Gather(position_ids, r)", set()),
    "each-the-next": ("a = Constant<value_int = 1>() n = Constant<value_int = 8>() d = Constant<value_int = 1>()"
                      " r = Range(a, n, d) y = Gather(position_ids, r)", {OTHERS}),
    "whole-slice": ("a = Constant<value_ints = [0]>() b = Constant<value_ints = [9223372036854775807]>()"
                    " y = Slice(position_ids, a, b, a)", set()),
}  # fmt: skip


def found(body: str, head: str = HEAD) -> set[str]:
    text = f'<ir_version: 10, opset_import: ["": 18]> g ({head}) => (int64[a, b] y) {{ {body} }}'
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))
    return set(influences(model.graph, [model.graph.outputs[0]]))


@pytest.mark.parametrize("name", CASES)
def test_what_reaches_the_number(name):
    body, expected = CASES[name]
    assert found(body) == expected


def test_what_positions_are_counted_from_is_no_stranger_where_none_are_given():
    head = "int64[batch, sequence] input_ids, int64[batch, total] attention_mask"
    assert found("a = Constant<value_ints = [1]>() y = CumSum(attention_mask, a)", head) == set()
    assert found("s = Shape<start = 0, end = 1>(input_ids) y = Add(attention_mask, s)", head) == {BATCH}


def test_an_axis_of_the_positions_may_be_picked():
    head = "int64[3, batch, sequence] position_ids, int64[batch, total] attention_mask"
    picked = "z = Constant<value_int = 1>() y = Gather<axis = {}>(position_ids, z)"
    assert found(picked.format(0), head) == set()
    assert found(picked.format(2), head) == {OTHERS}
