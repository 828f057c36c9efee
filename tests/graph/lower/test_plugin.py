"""Custom operators as functions: one for each set of attributes, q and k in one node."""

import re

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rope_deploy.graph.lower.lower_rotations import lower_rotations
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from rope_deploy.graph.rotating_operators import PLUGIN_UNUSED
from tests.graph.graphs import (
    EVENS_AND_ODDS,
    FORMS,
    POSITIONS,
    REPEATED,
    ROWS,
    STACKED_PAIR,
    activation,
    graph,
    oracle,
    rotation_graph,
    run,
)
from tests.graph.raising.test_raise_rotations import two_sites


def nodes(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.domain == "rope_deploy"]


def test_query_and_key_of_a_layer_are_one_node():
    model = graph(two_sites(), result="batch, 2, sequence, sequence")
    feeds = activation(model, POSITIONS)
    before = run(model, feeds)["y"]
    lowered = lower_rotations(raise_rotations(model, ROWS), "plugin")
    (node,) = nodes(lowered.model)
    assert (node.op_type, len(node.outputs)) == ("RopeRotateQK", 2)
    assert [site.role for site in lowered.sites] == ["q", "k"]
    np.testing.assert_allclose(run(lowered.model, feeds)["y"], before, atol=1e-5)


def test_exchanging_query_and_key_would_be_seen():
    model = graph(two_sites(), result="batch, 2, sequence, sequence")
    feeds = activation(model, POSITIONS)
    before = run(model, feeds)["y"]
    lowered = lower_rotations(raise_rotations(model, ROWS), "plugin").model
    (node,) = nodes(lowered)
    node.replace_input_with(0, node.inputs[1])
    assert np.abs(run(lowered, feeds)["y"] - before).max() > 0.1


@pytest.mark.parametrize("rotary_dim", [8, 4])
def test_the_node_carries_its_attributes_and_the_function_declares_them(rotary_dim):
    lowered = lower_rotations(
        raise_rotations(rotation_graph("rotate_half", rotary_dim=rotary_dim), ROWS), "plugin"
    ).model
    (node,) = nodes(lowered)
    assert node.op_type == "RopeRotate"
    stated = {name: attribute.value for name, attribute in node.attributes.items()}
    chosen = {"heads_axis": 1, "head_dim": 8, "rotary_dim": rotary_dim, "interleaved": 0}
    assert {name: list(v) if isinstance(v, tuple) else v for name, v in stated.items()} == chosen | PLUGIN_UNUSED
    (function,) = lowered.functions.values()
    assert set(function.attributes) == set(stated)
    assert function.overload == "", "one set of attributes needs no overload, which older tools do not read"


def two_rotations() -> ir.Model:
    """One tensor rotated half-split, then the result interleaved."""
    first = "t = Identity(x)\n" + FORMS["rotate_half"][1]
    second = "n = Neg(x2)" + STACKED_PAIR.format(first="n", second="x1", out="r")
    second = (
        REPEATED + EVENS_AND_ODDS + second + "straight = Mul(t, c)\n crossed = Mul(r, s)\n y = Add(straight, crossed)"
    )
    taken = set(re.findall(r"(\w+) = [A-Z]", first))
    second = re.sub(r"\w+", lambda word: f"second_{word[0]}" if word[0] in taken else word[0], second)
    return graph(first + "\n second_t = Identity(rotated)\n" + second)


def test_two_sets_of_attributes_are_two_functions_that_onnx_runtime_tells_apart():
    model = two_rotations()
    feeds = activation(model, POSITIONS)
    lowered = lower_rotations(raise_rotations(model, ROWS), "plugin").model
    assert sorted(function.overload for function in lowered.functions.values()) == ["", "1"]
    first = oracle(feeds["x"], POSITIONS, interleaved=False, rotary_dim=8)
    both = oracle(first, POSITIONS, interleaved=True, rotary_dim=8)
    np.testing.assert_allclose(run(lowered, feeds)["y"], both, atol=1e-5)
    twice = oracle(first, POSITIONS, interleaved=False, rotary_dim=8)
    assert np.abs(twice - both).max() > 0.1


def test_the_names_of_two_sites_in_one_layer_differ():
    lowered = lower_rotations(raise_rotations(two_rotations(), ROWS), "tables").model
    names = [value.name for node in lowered.graph for value in node.outputs]
    assert len(names) == len(set(names))


def test_the_file_passes_onnx_own_checker():
    lowered = lower_rotations(raise_rotations(rotation_graph("rotate_half"), ROWS), "plugin").model
    onnx.checker.check_model(ir.to_proto(lowered))
