"""Masks: causal, with a window, or neither, found by evaluating them."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from rope_deploy.graph.analysis.causal_mask import CausalMask, as_causal, expected

MAX = 64


def graph(rule: str) -> ir.Model:
    """A mask [B, 1, S, T] from attention_mask [B, T]: key and query are numbered, real is the padding."""
    model = ir.from_onnx_text(f"""
<ir_version: 10, opset_import: ["" : 18]>
g (int64[batch, sequence] input_ids, int64[batch, total] attention_mask) => (bool[batch, 1, sequence, total] mask)
<int64 zero = {{0}}, int64 one = {{1}}, int64[1] axis0 = {{0}}, int64[1] axis1 = {{1}}, int64[2] axes12 = {{1, 2}},
 int64 window = {{8}}>
{{ total_shape = Shape <start = 1, end = 2> (attention_mask)
   new_shape = Shape <start = 1, end = 2> (input_ids)
   total = Squeeze(total_shape)
   new = Squeeze(new_shape)
   past = Sub(total, new)
   keys = Range(zero, total, one)
   queries = Range(past, total, one)
   key = Unsqueeze(keys, axis0)
   query = Unsqueeze(queries, axis1)
   real_flat = Cast <to = 9> (attention_mask)
   real = Unsqueeze(real_flat, axes12)
   {rule} }}""")
    common.ShapeInferencePass()(model)
    return model


CAUSAL = "seen = LessOrEqual(key, query)\n"
WINDOW = CAUSAL + "distance = Sub(query, key)\n near = Less(distance, window)\n both = And(seen, near)\n"
BLOCKS = (
    CAUSAL + "key_block = Div(key, window)\n query_block = Div(query, window)\n"
    "same = Equal(key_block, query_block)\n both = And(seen, same)\n"
)


def found(rule: str) -> CausalMask | None:
    model = graph(rule)
    return as_causal(model.graph.outputs[0], model.graph, MAX)


def test_a_causal_mask_has_no_window():
    assert found(CAUSAL + "mask = And(seen, real)") == CausalMask(None)


def test_a_window_is_measured():
    assert found(WINDOW + "mask = And(both, real)") == CausalMask(8)


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(BLOCKS + "mask = And(both, real)", id="blocks of eight tokens"),
        pytest.param(CAUSAL.replace("LessOrEqual", "Less") + "mask = And(seen, real)", id="not itself"),
        pytest.param(CAUSAL + "mask = Or(seen, real)", id="padding seen"),
        pytest.param("everyone = GreaterOrEqual(key, key)\n mask = And(everyone, real)", id="both directions"),
        pytest.param("noise = RandomUniformLike <dtype = 1> (attention_mask)\n some = Cast <to = 9> (noise)\n"
                     "wide = Unsqueeze(some, axes12)\n mask = And(wide, real)", id="not reproducible"),
    ],
)  # fmt: skip
def test_anything_else_is_not_called_causal(rule):
    assert found(rule) is None


def test_a_mask_that_is_a_constant_is_not_causal():
    model = graph(CAUSAL + "mask = And(seen, real)")
    tensor = ir.tensor(np.ones((1, 1, 1, 1), bool), name="always")
    constant = ir.Value(
        name="always", const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape([1, 1, 1, 1])
    )
    assert as_causal(constant, model.graph, MAX) is None


def test_expected_counts_the_query_itself_into_the_window():
    real = np.ones((1, 5), np.int64)
    np.testing.assert_array_equal(expected(real, 2, 2)[0, 0].astype(int), [[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]])
