"""An operator's limits are known by one table, which export, check and reports share."""

from dataclasses import fields

import onnx
import onnx_ir as ir
import pytest

from rope_deploy.artifact import Limits
from rope_deploy.graph.operator_limits import OPERATOR_LIMITS, limited_values
from rope_deploy.graph.rotating_operators import CONTRIB, GROUP_QUERY_ATTENTION, STANDARD

LENGTHS = {"left_padding", "chunked_prefill_batch", "prompt_positions"}


def nodes(proto):
    """The node as each of the two libraries has it."""
    return proto, ir.from_proto(proto)


def attention(**attributes):
    outputs = ["out", "present.0.key", "present.0.value"]
    return onnx.helper.make_node(GROUP_QUERY_ATTENTION, ["x"], outputs, domain=CONTRIB, **attributes)


@pytest.mark.parametrize("node", nodes(attention(do_rotary=1)))
def test_an_attention_that_takes_lengths_has_three_limits_in_the_layer_of_its_cache(node):
    assert limited_values([node]) == dict.fromkeys(LENGTHS, frozenset({"present.0.key"}))


@pytest.mark.parametrize("node", nodes(attention(do_rotary=1, local_window_size=8)))
def test_with_a_sliding_window_it_has_four(node):
    assert set(limited_values([node])) == {*LENGTHS, "padded_past"}


def test_one_that_does_not_rotate_and_another_operator_have_none():
    embedding = onnx.helper.make_node("RotaryEmbedding", ["x", "cos", "sin", "rows"], ["y"], domain=STANDARD)
    for node in (*nodes(attention(local_window_size=8)), *nodes(embedding)):
        assert limited_values([node]) == {}


def test_every_limit_is_a_field_of_the_manifest():
    stated = [one.name for one in fields(Limits) if one.name not in ("tokens", "note")]
    assert [limit.name for limit in OPERATOR_LIMITS] == stated
