"""Rotary operators in standard operators compute the same rotation."""

import numpy as np
import onnx_ir as ir
import pytest

from rope_deploy.errors import UnmatchedRotation
from rope_deploy.graph.lower.lower_rotations import lower_rotations
from rope_deploy.graph.passes.expand_rotary_operators import ExpandRotaryOperatorsPass
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from rope_deploy.graph.rotating_operators import ROTARY_EMBEDDING
from tests.graph.graphs import POSITIONS, ROWS, activation, oracle, rotation_graph, run


def with_operator(style: str, name: str, **sizes) -> ir.Model:
    return lower_rotations(raise_rotations(rotation_graph(name, **sizes), ROWS), style).model


def operators(model: ir.Model) -> set[str]:
    return {node.op_type for node in model.graph}


@pytest.mark.parametrize("rotary_dim", [8, 4])
@pytest.mark.parametrize(("name", "interleaved"), [("rotate_half", False), ("real_and_imaginary", True)])
@pytest.mark.parametrize("style", ["onnx", "contrib"])
def test_the_operator_is_written_in_standard_operators(style, name, interleaved, rotary_dim):
    model = with_operator(style, name, rotary_dim=rotary_dim)
    assert ROTARY_EMBEDDING in operators(model)
    assert ExpandRotaryOperatorsPass()(model).modified
    assert ROTARY_EMBEDDING not in operators(model)
    feeds = activation(model, POSITIONS)
    want = oracle(feeds["x"], POSITIONS, interleaved=interleaved, rotary_dim=rotary_dim)
    np.testing.assert_allclose(run(model, feeds)["y"], want, atol=1e-5)


def test_an_operator_that_scales_is_refused():
    model = with_operator("contrib", "rotate_half")
    (node,) = (node for node in model.graph if node.op_type == ROTARY_EMBEDDING)
    node.attributes["scale"] = ir.AttrFloat32("scale", 2.0)
    with pytest.raises(UnmatchedRotation, match="it scales or packs its input"):
        ExpandRotaryOperatorsPass()(model)


def test_a_graph_without_them_stays():
    model = with_operator("tables", "rotate_half")
    before = len(model.graph)
    ExpandRotaryOperatorsPass()(model)
    assert len(model.graph) == before
