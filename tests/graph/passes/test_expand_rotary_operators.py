"""Rotary operators in standard operators compute the same rotation."""

from collections import Counter

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


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


GUARD = Counter({"GreaterOrEqual": 1, "Less": 1, "And": 1, "Where": 1})  # a position outside has the row of NaN
ROTATION = Counter({"Gather": 3, "Neg": 1, "Concat": 2, "Unsqueeze": 2, "Reshape": 2, "Mul": 2, "Add": 1})
PAIRS_OF_NEIGHBOURS = Counter({"Unsqueeze": 4, "Reshape": 2})
PARTIAL = Counter({"Split": 1, "Concat": 1})


@pytest.mark.parametrize("rotary_dim", [8, 4])
@pytest.mark.parametrize(("name", "interleaved"), [("rotate_half", False), ("real_and_imaginary", True)])
@pytest.mark.parametrize("style", ["onnx", "contrib"])
def test_the_operator_is_written_in_standard_operators(style, name, interleaved, rotary_dim):
    model = with_operator(style, name, rotary_dim=rotary_dim)
    assert operators(model) == GUARD + Counter({ROTARY_EMBEDDING: 1})
    assert ExpandRotaryOperatorsPass()(model).modified
    expected = GUARD + ROTATION + (PAIRS_OF_NEIGHBOURS if interleaved else Counter())
    assert operators(model) == expected + (PARTIAL if rotary_dim == 4 else Counter())
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
    before = list(model.graph)
    ExpandRotaryOperatorsPass()(model)
    assert list(model.graph) == before
    assert operators(model) == GUARD + ROTATION
