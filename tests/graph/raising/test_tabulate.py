"""Tables: the model's own numbers to the last bit, and the right kind for rules that look at the length."""

import numpy as np
import onnx_ir as ir
import pytest
import torch

from rope_deploy.errors import UnmatchedRotation
from rope_deploy.graph.lower.lower_rotations import lower_rotations
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from rope_deploy.graph.raising.tabulate import CHUNK
from rope_deploy.models.torch_trig import cos, sin
from tests.graph.graphs import (
    ANGLES,
    DOUBLED,
    HALVES,
    MULTIPLY_ADD,
    ROWS,
    activation,
    frequencies,
    graph,
    rotation_graph,
    run,
)

BODY = "t = Identity(x)\n" + DOUBLED + HALVES + "n = Neg(x2)\n r = Concat <axis = -1> (n, x1)" + MULTIPLY_ADD
BODY += "\n y = Identity(rotated)"
FREQUENCIES = frequencies(8)


def table(angles: str = ANGLES, rows: int = ROWS, constants: str = "", **trig):
    (rotation,) = raise_rotations(graph(BODY, angles=angles, constants=constants), rows, **trig).rotations
    return rotation.table


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_table_is_what_pytorch_computes_bit_for_bit(dtype):
    (rotation,) = raise_rotations(rotation_graph("rotate_half", dtype=dtype), 3000, cos=cos, sin=sin).rotations
    angle = torch.arange(3000).float()[:, None] * torch.from_numpy(FREQUENCIES)
    for mine, theirs in ((rotation.table.cos, angle.cos()), (rotation.table.sin, angle.sin())):
        theirs = theirs.to(getattr(torch, dtype)).float().numpy()
        np.testing.assert_array_equal(mine.astype(np.float32), theirs)
        assert not np.array_equal(mine[:-1].astype(np.float32), theirs[1:])


def test_a_table_longer_than_a_chunk_has_no_seam():
    long = table(rows=2 * CHUNK + 7, cos=cos, sin=sin)
    angle = torch.arange(2 * CHUNK + 7).float()[:, None] * torch.from_numpy(FREQUENCIES)
    np.testing.assert_array_equal(long.cos, angle.cos().numpy())


def test_one_row_is_a_table_too():
    assert table(rows=1).cos.shape == (1, 4)


# inv_freq of a rule with two states, switched by the longest position of the call, at `original` tokens.
TWO_STATES = """
  longest = ReduceMax <keepdims = 0> (position_ids)
  is_long = GreaterOrEqual(longest, original)
  slowed = Mul(inv_freq, half_speed)
  chosen = Where(is_long, slowed, inv_freq)
""" + ANGLES.replace("inv_freq", "chosen")
# inv_freq that changes with every length, beyond `original` tokens.
EVERY_LENGTH = """
  longest = ReduceMax <keepdims = 0> (position_ids)
  beyond = Max(longest, original)
  ratio = Sub(beyond, original)
  ratio32 = Cast <to = 1> (ratio)
  divisor = Add(ratio32, float_one)
  chosen = Div(inv_freq, divisor)
""" + ANGLES.replace("inv_freq", "chosen")


def constants(original: int) -> str:
    return f", int64 original = {{{original}}}, float half_speed = {{0.5}}, float float_one = {{1.0}}"


@pytest.mark.parametrize("original", [3, 7, 12])
def test_two_states_are_two_tables_with_the_threshold_between_them(original):
    found = table(TWO_STATES, constants=constants(original))
    assert (found.kind, found.original) == ("two-tables", original)
    assert found.cos.shape == (original + ROWS, 4)
    plain = table()
    np.testing.assert_array_equal(found.cos[:original], plain.cos[:original])
    angle = np.arange(ROWS, dtype=np.float32)[:, None] * (FREQUENCIES * np.float32(0.5))
    np.testing.assert_allclose(found.cos[original:], np.cos(angle), atol=1e-6)


def test_a_threshold_beyond_the_table_leaves_one_table():
    assert table(TWO_STATES, constants=constants(ROWS)).kind == "table"
    assert table(TWO_STATES, constants=constants(ROWS - 1)).kind == "two-tables"


def test_a_rule_that_changes_with_every_length_stays_in_the_graph():
    found = table(EVERY_LENGTH, constants=constants(5))
    assert (found.kind, len(found.cos)) == ("computed", 0)


@pytest.mark.parametrize("style", ["tables", "onnx", "contrib", "plugin"])
@pytest.mark.parametrize("angles", [TWO_STATES, EVERY_LENGTH], ids=["two-tables", "computed"])
def test_rules_of_length_run_as_before_on_both_sides_of_the_threshold(angles, style):
    model = graph(BODY, angles=angles, constants=constants(7))
    untouched = graph(BODY, angles=angles, constants=constants(7))
    lowered = lower_rotations(raise_rotations(model, ROWS), style).model
    results = {}
    for longest in (5, 6, 7, 8, 15):
        feeds = activation(model, np.array([[longest, 1, 2, 3], [0, 4, 3, 5]]))
        results[longest] = run(lowered, feeds)["y"]
        np.testing.assert_allclose(results[longest], run(untouched, feeds)["y"], atol=1e-6)
    # Below the threshold the other tokens do not notice the longest one; across it they do.
    np.testing.assert_array_equal(results[5][:, :, 1:], results[6][:, :, 1:])
    assert np.abs(results[6][:, :, 1:] - results[8][:, :, 1:]).max() > 0.01


def test_a_table_that_depends_on_the_number_of_tokens_is_refused():
    angles = """
  shape = Shape(position_ids)
  count = Gather(shape, i1)
  count32 = Cast <to = 1> (count)
  chosen = Div(inv_freq, count32)
""" + ANGLES.replace("inv_freq", "chosen")
    with pytest.raises(UnmatchedRotation, match="follows from the number of tokens too"):
        table(angles)


def test_a_table_made_from_the_mask_or_a_weight_is_refused_with_the_reason():
    angles = ANGLES.replace("inv_freq", "unknown")
    model = graph(BODY, angles="unknown = RandomNormalLike(inv_freq)\n" + angles)
    with pytest.raises(UnmatchedRotation):
        raise_rotations(model, ROWS)


def test_positions_of_unknown_axes_are_refused():
    model = graph(BODY)
    model.graph.inputs[1].shape = ir.Shape(["axes", "batch", "sequence"])
    with pytest.raises(UnmatchedRotation):
        raise_rotations(model, ROWS)
