"""The operators that rotate are told apart by domain, name and do_rotary, in onnx's nodes and in onnx-ir's."""

import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from rope_deploy.graph.rotating_operators import CONTRIB, GROUP_QUERY_ATTENTION, OPERATORS, forms_of_style, rotates
from rope_deploy.styles import STYLES


def both(op_type: str, domain: str, **attributes: int) -> list:
    node = helper.make_node(op_type, ["x"], ["y"], domain=domain, **attributes)
    return [node, ir.from_proto(node)]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda one: one.qualified_name)
def test_an_attention_rotates_where_do_rotary_is_set_and_a_rotary_operator_always(operator):
    for node in both(operator.name, operator.domain):
        assert rotates(node) is (None if operator.fused else operator)
    for node in both(operator.name, operator.domain, do_rotary=1):
        assert rotates(node) is operator


def test_an_unknown_attention_that_says_do_rotary_is_opaque():
    for node in both("FutureAttention", CONTRIB, do_rotary=1):
        assert "not an operator known here" in rotates(node).opaque
    for node in both("FutureAttention", CONTRIB, do_rotary=0) + both("Add", "") + both("RotaryEmbedding", "other"):
        assert rotates(node) is None


def test_every_style_has_forms_and_no_form_has_two_styles():
    forms = [form for style in STYLES for form in forms_of_style(style)]
    assert len(forms) == len(set(forms)) >= len(STYLES)


def test_the_schema_of_onnx_has_the_inputs_where_they_are_stated():
    schema = onnx.defs.get_schema("RotaryEmbedding", 23, "")
    (operator,) = [one for one in OPERATORS if one.domain == ""]
    names = [schema.inputs[number].name for number in (*operator.x, operator.cos, operator.sin, operator.rows)]
    assert names == ["X", "cos_cache", "sin_cache", "position_ids"]
    assert {operator.rotary_dim, operator.interleaved} <= set(schema.attributes)


def test_group_query_attention_is_the_one_fused_operator_that_a_style_writes():
    assert [one.name for one in OPERATORS if one.fused and one.style] == [GROUP_QUERY_ATTENTION]
