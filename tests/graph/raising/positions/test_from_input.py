"""Positions with three axes (M-RoPE): each pair follows one of them, in every style."""

import numpy as np
import pytest

from rope_deploy.errors import UnmatchedRotation
from rope_deploy.graph.lower.lower_rotations import lower_rotations
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from rope_deploy.rope import rotate
from tests.graph.graphs import DOUBLED, HALVES, MULTIPLY_ADD, ROWS, activation, frequencies, graph, run

ROTATE_HALF = HALVES + "n = Neg(x2)\n r = Concat <axis = -1> (n, x1)"
END = "\n y = Identity(rotated)"
# Angles [3, B, S, R/2], of which each pair takes one: a section of pairs an axis, or one axis after another.
ALL = """
  p = Cast <to = 1> (position_ids)
  column = Unsqueeze(p, last)
  angles = Mul(column, inv_freq)
"""
SECTIONS = (
    ALL
    + """
  s0, s1, s2 = Split <axis = -1> (angles, sections)
  a0 = Gather <axis = 0> (s0, i0)
  a1 = Gather <axis = 0> (s1, i1)
  a2 = Gather <axis = 0> (s2, i2)
  angle = Concat <axis = -1> (a0, a1, a2)
"""
)
ALTERNATING = (
    ALL
    + """
  a0 = Gather <axis = 0> (angles, i0)
  a1 = Gather <axis = 0> (angles, i1)
  a2 = Gather <axis = 0> (angles, i2)
  b1 = Where(second, a1, a0)
  angle = Where(third, a2, b1)
"""
)
MIXED = (
    ALL
    + """
  angle = ReduceSum <keepdims = 0> (angles, zero)
"""
)
COS_SIN = "\n cos = Cos(angle)\n sin = Sin(angle)\n"
CONSTANTS = (
    ", int64[3] sections = {1, 2, 1}, int64 i2 = {2}, bool[4] second = {0, 1, 0, 0}, bool[4] third = {0, 0, 1, 0}"
)
FORMS = {"sections": (SECTIONS, (0, 1, 1, 2)), "alternating": (ALTERNATING, (0, 1, 2, 0))}
# [3, B, S]: no two axes alike
POSITIONS = np.array([[[0, 1, 5, 15], [9, 3, 3, 14]], [[2, 2, 7, 0], [1, 8, 6, 4]], [[11, 4, 0, 3], [5, 5, 12, 13]]])


def with_axes(angles: str):
    body = "t = Identity(x)\n" + DOUBLED + ROTATE_HALF + MULTIPLY_ADD + END
    return graph(body, angles=angles + COS_SIN, constants=CONSTANTS, position_axes=3)


def oracle(x: np.ndarray, positions: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The fp64 rotation of x [B, N, S, 8], pair i at the positions of its axis."""
    followed = positions[list(axes)].transpose(1, 2, 0)
    angle = followed * frequencies(8).astype(np.float64)
    return rotate(x.astype(np.float64), np.cos(angle)[:, None], np.sin(angle)[:, None], interleaved=False)


@pytest.mark.parametrize("style", ["tables", "onnx", "contrib", "plugin"])
@pytest.mark.parametrize("name", FORMS)
def test_each_pair_follows_its_axis_in_every_style(name, style):
    angles, axes = FORMS[name]
    model = with_axes(angles)
    feeds = activation(model, POSITIONS)
    before = run(model, feeds)["y"]
    raised = raise_rotations(model, ROWS)
    (rotation,) = raised.rotations
    assert rotation.table.axes == axes and len(rotation.table.cos) == ROWS
    after = run(lower_rotations(raised, style).model, feeds)["y"]
    np.testing.assert_allclose(after, before, atol=1e-6)
    np.testing.assert_allclose(after, oracle(feeds["x"], POSITIONS, axes), atol=1e-6)
    for wrong in ((0, 0, 0, 0), axes[::-1]):
        assert np.abs(after - oracle(feeds["x"], POSITIONS, wrong)).max() > 0.1, "the comparison sees the axes"


def test_text_whose_axes_agree_is_rotated_as_by_one():
    model = with_axes(SECTIONS)
    feeds = activation(model, np.broadcast_to(POSITIONS[:1], POSITIONS.shape))
    lowered = lower_rotations(raise_rotations(model, ROWS), "tables").model
    np.testing.assert_allclose(run(lowered, feeds)["y"], oracle(feeds["x"], POSITIONS, (0, 0, 0, 0)), atol=1e-6)


def test_a_position_outside_on_one_axis_is_no_number_and_others_are():
    model = with_axes(SECTIONS)
    positions = POSITIONS.copy()
    positions[1, 0, 2] = ROWS
    feeds = activation(model, positions)
    y = run(lower_rotations(raise_rotations(model, ROWS), "tables").model, feeds)["y"]
    bad = np.isnan(y).any(axis=(1, 3))
    assert bad[0].tolist() == [False, False, True, False] and not bad[1].any()


def test_a_pair_that_follows_two_axes_is_refused():
    with pytest.raises(UnmatchedRotation, match="more than one axis"):
        raise_rotations(with_axes(MIXED), ROWS)
