import onnx
import pytest

from rope_deploy.artifact import Site
from rope_deploy.errors import GraphRefused, RefusedNode
from rope_deploy.trt.refused_nodes import attribute_refusal, rotation_nodes
from tests.trt.graphs import manifest, write_onnx

# Two values that rotate with one table, and around them what the model does for itself.
GRAPH = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[2, 8] x, int64[2] position_ids) => (float[2, 8] z)
{
  cos = RandomNormal <shape = [9, 8]> ()
  sin = RandomNormal <shape = [9, 8]> ()
  [before] q = Relu(x)
  [other] k = Sigmoid(x)
  [row] c = Gather(cos, position_ids)
  [row2] s = Gather(sin, position_ids)
  [flip] n = Neg(q)
  [a] qc = Mul(q, c)
  [b] ns = Mul(n, s)
  [turned] qr = Add(qc, ns)
  [e] kr = Mul(k, c)
  [after] z = Add(qr, kr) }
"""
INSIDE = {"row", "row2", "flip", "a", "b", "turned", "e"}


def site(role, given, turned):
    return Site(0, role, "main", 1, 8, "BSNH", given, turned)


SITES = (site("q", "q", "qr"), site("k", "k", "kr"))


@pytest.fixture
def model(tmp_path):
    return write_onnx(tmp_path / "g.onnx", GRAPH)


@pytest.fixture
def described():
    from dataclasses import replace

    return replace(manifest(), sites=SITES)


def test_a_rotation_is_what_lies_between_its_input_its_tables_and_its_output():
    assert rotation_nodes(onnx.parser.parse_model(GRAPH).graph.node, SITES) == INSIDE


def test_one_operator_that_turns_both_does_not_reach_beyond_either_input():
    text = GRAPH[: GRAPH.index("  [row]")] + "[both] qr, kr = Split <num_outputs: int = 2> (q, k)\n z = Add(qr, kr) }"
    assert rotation_nodes(onnx.parser.parse_model(text).graph.node, SITES) == {"both"}


def test_an_operator_that_is_a_rotation_counts_without_a_place():
    fused = onnx.helper.make_node("GroupQueryAttention", ["q"], ["y"], name="fused", domain="com.microsoft")
    plain = onnx.helper.make_node("Relu", ["y"], ["z"], name="plain")
    assert rotation_nodes([fused, plain], [site("q", "q", None)]) == {"fused"}


@pytest.mark.parametrize("name", sorted(INSIDE))
def test_a_refused_node_of_a_rotation_is_one(model, described, name):
    error = attribute_refusal(GraphRefused("no:", nodes=[RefusedNode("Any", name)]), model, described)
    assert error.of_rotation is True
    assert error.exists == "Only rotations are refused."


@pytest.mark.parametrize("name", ["before", "other", "after"])
def test_a_refused_node_of_the_model_is_none_and_no_style_helps(model, described, name):
    error = attribute_refusal(
        GraphRefused("no:", todo="another style", nodes=[RefusedNode("Any", name)]), model, described
    )
    assert error.of_rotation is False
    assert f"Not part of a rotation: Any '{name}'." in error.exists
    assert "No style changes that" in error.todo


def test_where_both_are_refused_both_are_said(model, described):
    nodes = [RefusedNode("Gather", "row"), RefusedNode("Relu", "before")]
    error = attribute_refusal(GraphRefused("no:", todo="another style", nodes=nodes), model, described)
    assert (error.of_rotation, error.todo) == (True, "another style")
    assert error.exists == "Not part of a rotation: Relu 'before'."


@pytest.mark.parametrize("function", ["RopeRotateQK", "rope_deploy:RopeRotateQK"])
def test_the_body_of_our_operator_is_a_rotation(model, described, function):
    inner = RefusedNode("Gather", "inner", (function,))
    assert attribute_refusal(GraphRefused("no:", nodes=[inner]), model, described).of_rotation is True
    other = RefusedNode("Gather", "inner", ("Theirs",))
    assert attribute_refusal(GraphRefused("no:", nodes=[other]), model, described).of_rotation is False


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("no kernel for {ForeignNode[row...after]}", None),
        ("Error Code 10: no implementation for node turned.", None),
        ("Error Code 10: no implementation for node [turned]", True),
        ("Error Code 10: no implementation for node [after]", False),
        ("out of ideas", None),
    ],
)
def test_a_builder_s_message_is_searched_for_names_of_nodes(model, described, text, verdict):
    assert attribute_refusal(GraphRefused(text), model, described).of_rotation is verdict
