"""Every style against the fp64 rotation: types, layouts, opsets, and positions outside the table."""

import numpy as np
import onnx_ir as ir
import pytest

from rope_deploy.errors import UsageError
from rope_deploy.graph.lower.lower_rotations import lower_rotations
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from rope_deploy.styles import STYLES
from tests.graph.graphs import (
    DOUBLED,
    FORMS,
    HALVES,
    MULTIPLY_ADD,
    POSITIONS,
    ROWS,
    activation,
    graph,
    oracle,
    rotation_graph,
    run,
    run_slowly,
)

TOLERANCE = {"float32": 1e-6, "float16": 5e-3, "bfloat16": 4e-2}
LAYOUT = {False: "rotate_half", True: "stack_and_flatten"}


def check(model: ir.Model, style: str, *, interleaved: bool, rotary_dim: int, heads_axis: int, runner=run, opset=None):
    """The lowered graph equals the oracle, and differs from the oracle of the other layout."""
    dtype = model.graph.inputs[0].dtype.name.lower()
    dtype = {"float": "float32"}.get(dtype, dtype)
    feeds = activation(model, POSITIONS)
    lowered = lower_rotations(raise_rotations(model, ROWS), style, opset=opset)
    got = runner(lowered.model, feeds)["y"].astype(np.float64)
    sizes = {"rotary_dim": rotary_dim, "heads_axis": heads_axis}
    right = oracle(feeds["x"], POSITIONS, interleaved=interleaved, **sizes)
    wrong = oracle(feeds["x"], POSITIONS, interleaved=not interleaved, **sizes)
    shifted = oracle(feeds["x"], POSITIONS + 1, interleaved=interleaved, **sizes)
    assert np.abs(got - right).max() < TOLERANCE[dtype]
    for fault in (wrong, shifted):
        assert np.abs(got - fault).max() > 2 * TOLERANCE[dtype]
    return lowered


@pytest.mark.parametrize("heads_axis", [1, 2], ids=["BNSH", "BSNH"])
@pytest.mark.parametrize("rotary_dim", [8, 4], ids=["full", "partial"])
@pytest.mark.parametrize("interleaved", [False, True], ids=["half_split", "interleaved"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("style", STYLES)
def test_equals_the_fp64_rotation_in_onnx_runtime(style, dtype, interleaved, rotary_dim, heads_axis):
    model = rotation_graph(LAYOUT[interleaved], rotary_dim=rotary_dim, heads_axis=heads_axis, dtype=dtype)
    check(model, style, interleaved=interleaved, rotary_dim=rotary_dim, heads_axis=heads_axis)


@pytest.mark.parametrize("rotary_dim", [8, 4], ids=["full", "partial"])
@pytest.mark.parametrize("interleaved", [False, True], ids=["half_split", "interleaved"])
@pytest.mark.parametrize("style", ["tables", "onnx", "plugin"])
def test_equals_the_fp64_rotation_in_bfloat16(style, interleaved, rotary_dim):
    model = rotation_graph(LAYOUT[interleaved], rotary_dim=rotary_dim, dtype="bfloat16")
    check(model, style, interleaved=interleaved, rotary_dim=rotary_dim, heads_axis=1, runner=run_slowly)


@pytest.mark.parametrize("opset", range(17, 25))
@pytest.mark.parametrize("style", STYLES)
def test_every_opset_from_17_on_runs(style, opset):
    model = rotation_graph("rotate_half")
    if style == "onnx" and opset < 23:
        with pytest.raises(UsageError, match="needs opset 23"):
            lower_rotations(raise_rotations(model, ROWS), style, opset=opset)
        return
    lowered = check(model, style, interleaved=False, rotary_dim=8, heads_axis=1, opset=opset)
    assert lowered.model.graph.opset_imports[""] == lowered.opset == opset


SPLIT_FROM_PROJECTION = (
    "flat_x = Reshape(x, merged)\n apart = Reshape(flat_x, split)\n t = Transpose <perm = [0, 2, 1, 3]> (apart)\n"
    + DOUBLED
    + HALVES
    + "n = Neg(x2)\n r = Concat <axis = -1> (n, x1)"
    + MULTIPLY_ADD
    + "y = Transpose <perm = [0, 2, 1, 3]> (rotated)"
)


@pytest.mark.parametrize("style", ["onnx", "contrib"])
def test_operators_rotate_before_the_heads_are_moved(style):
    """x [B, S, N, H] -> [B, S, N·H] -> heads -> rotation on [B, N, S, H]: the operator takes the 3-D form."""
    constants = ", int64[3] merged = {0, 0, 16}, int64[4] split = {0, 0, 2, 8}"
    model = graph(
        SPLIT_FROM_PROJECTION.replace("heads_axis)", "one)"), heads_axis=2, constants=constants
    )  # the rotation itself is on [B, N, S, H]
    feeds = activation(model, POSITIONS)
    lowered = lower_rotations(raise_rotations(model, ROWS), style)
    (node,) = (n for n in lowered.model.graph if n.op_type == "RotaryEmbedding")
    assert len(node.inputs[0].shape) == 3 and node.attributes["num_heads"].value == 2
    assert lowered.sites[0].layout == "BS(NH)"
    expected = oracle(feeds["x"], POSITIONS, interleaved=False, rotary_dim=8, heads_axis=2)
    got = run(lowered.model, feeds)["y"]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.abs(got - feeds["x"]).max() > 0.1


@pytest.mark.parametrize("style", ["onnx", "contrib"])
@pytest.mark.parametrize("rotary_dim", [8, 4], ids=["full", "partial"])
def test_operators_take_four_axes_where_the_heads_came_apart(style, rotary_dim):
    lowered = check(
        rotation_graph("rotate_half", rotary_dim=rotary_dim),
        style,
        interleaved=False,
        rotary_dim=rotary_dim,
        heads_axis=1,
    )
    (node,) = (n for n in lowered.model.graph if n.op_type == "RotaryEmbedding")
    assert len(node.inputs[0].shape) == 4
    assert node.attributes["rotary_embedding_dim"].value == (0 if rotary_dim == 8 else 4)


OUTSIDE = np.array([[0, -1, ROWS, ROWS + 5], [2**63 - 1, -(2**63), ROWS - 1, 3]])
INSIDE = (OUTSIDE >= 0) & (OUTSIDE < ROWS)


@pytest.mark.parametrize("heads_axis", [1, 2], ids=["BNSH", "BSNH"])
@pytest.mark.parametrize("style", STYLES)
def test_positions_outside_the_table_give_nan_and_nothing_else_does(style, heads_axis):
    model = rotation_graph("rotate_half", heads_axis=heads_axis)
    feeds = activation(model, OUTSIDE)
    got = run(lower_rotations(raise_rotations(model, ROWS), style).model, feeds)["y"]
    got = got if heads_axis == 1 else got.transpose(0, 2, 1, 3)
    visible = np.isnan(got).all(axis=(1, 3))
    np.testing.assert_array_equal(visible, ~INSIDE)
    np.testing.assert_array_equal(np.isnan(got).any(axis=(1, 3)), ~INSIDE)
    x = feeds["x"] if heads_axis == 1 else feeds["x"].transpose(0, 2, 1, 3)
    expected = oracle(x, np.where(INSIDE, OUTSIDE, 0), interleaved=False, rotary_dim=8)
    np.testing.assert_allclose(got.transpose(0, 2, 1, 3)[INSIDE], expected.transpose(0, 2, 1, 3)[INSIDE], atol=1e-6)


def test_a_bare_gather_would_have_taken_the_last_row_for_position_minus_one():
    """The fault that the NaN row guards against: without it ONNX Runtime wraps around and says nothing."""
    model = rotation_graph("rotate_half")
    lowered = lower_rotations(raise_rotations(model, ROWS), "tables")
    (guard,) = (node for node in lowered.model.graph if node.op_type == "Where")
    positions = next(value for value in lowered.model.graph.inputs if value.name == "position_ids")
    guard.outputs[0].replace_all_uses_with(positions)
    got = run(lowered.model, activation(model, np.array([[-2, 1, 2, 3]])))["y"]
    assert np.isfinite(got).all()


@pytest.mark.parametrize("style", STYLES)
def test_the_graph_itself_is_left_as_it_was(style):
    raised = raise_rotations(rotation_graph("rotate_half"), ROWS)
    before = ir.to_onnx_text(raised.model)
    lower_rotations(raised, style)
    assert ir.to_onnx_text(raised.model) == before


def test_an_unknown_style_names_those_that_exist():
    with pytest.raises(UsageError, match="Unknown style 'cuda'") as caught:
        lower_rotations(raise_rotations(rotation_graph("rotate_half"), ROWS), "cuda")
    assert "tables, onnx, contrib, plugin" in caught.value.exists


@pytest.mark.parametrize("name", FORMS)
def test_no_cosine_is_left_at_run_time(name):
    lowered = lower_rotations(raise_rotations(rotation_graph(name), ROWS), "tables")
    assert not {"Cos", "Sin", "Range"} & {node.op_type for node in lowered.model.graph}


def test_caches_are_half_width_with_a_row_of_nan_and_shared():
    raised = raise_rotations(rotation_graph("rotate_half"), ROWS)
    for style in STYLES:
        caches = {
            n: v for n, v in lower_rotations(raised, style).model.graph.initializers.items() if n.endswith("_cache")
        }
        assert sorted(caches) == ["rope_0.cos_cache", "rope_0.sin_cache"]
        array = caches["rope_0.cos_cache"].const_value.numpy()
        assert array.shape == (ROWS + 1, 4)
        np.testing.assert_array_equal(array[:-1], raised.rotations[0].table.cos)
        assert np.isnan(array[-1]).all()
