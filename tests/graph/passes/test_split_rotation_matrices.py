"""Products with 2×2 matrices are rotations like any other."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx_ir.passes import common

from rope_deploy.graph.lower.lower_rotations import lower_rotations
from rope_deploy.graph.passes.split_rotation_matrices import SplitRotationMatricesPass
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from rope_deploy.styles import STYLES

TOKENS, HEADS, PAIRS = 6, 2, 4
ANGLES = np.random.default_rng(0).uniform(-3, 3, (TOKENS, PAIRS)).astype(np.float32)
ROTATIONS = np.stack([np.cos(ANGLES), -np.sin(ANGLES), np.sin(ANGLES), np.cos(ANGLES)], axis=-1)
SHAPE = f"batch, {HEADS}, {TOKENS}, {2 * PAIRS}"


def graph(matrices: np.ndarray, *, keepdims: int = 0) -> ir.Model:
    """x [B, N, S, H] as pairs [B, N, S, H/2, 1, 2], times [1, 1, S, H/2, 2, 2], summed over the last axis."""
    numbers = ", ".join(f"{v:.9g}" for v in matrices.reshape(-1))
    model = ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["" : 18]>
        tower (float[{SHAPE}] pixel_values) => (float[{SHAPE}] y)
        <float[1,1,{TOKENS},{PAIRS},2,2] matrices = {{{numbers}}}, int64[6] pairs = {{0, 0, 0, {PAIRS}, 1, 2}},
         int64[1] last = {{5}}, int64[4] whole = {{0, 0, 0, {2 * PAIRS}}}>
        {{
            x = Identity(pixel_values)
            p = Reshape(x, pairs)
            m = Mul(p, matrices)
            s = ReduceSum<keepdims: int = {keepdims}>(m, last)
            y = Reshape(s, whole)
        }}"""
    )
    common.ShapeInferencePass()(model)
    return model


def ran(model: ir.Model, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"pixel_values": x})[0]


@pytest.mark.parametrize("style", STYLES)
def test_a_product_with_matrices_is_one_interleaved_rotation(style):
    model = graph(ROTATIONS)
    x = np.random.default_rng(1).standard_normal((2, HEADS, TOKENS, 2 * PAIRS), np.float32)
    want = ran(model, x)
    raised = raise_rotations(model, 4096)
    (rotation,) = raised.rotations
    assert (rotation.interleaved, rotation.rotary_dim, len(raised.markers())) == (True, 2 * PAIRS, 1)
    np.testing.assert_array_equal(rotation.table.cos, np.cos(ANGLES))
    np.testing.assert_allclose(ran(lower_rotations(raised, style).model, x), want, atol=1e-6)


def test_a_sum_that_keeps_its_axis_is_left_alone():
    kept, split = graph(ROTATIONS, keepdims=1), graph(ROTATIONS)
    assert not SplitRotationMatricesPass()(kept).modified
    assert [node.op_type for node in kept.graph] == ["Identity", "Reshape", "Mul", "ReduceSum", "Reshape"]
    assert SplitRotationMatricesPass()(split).modified
    common.RemoveUnusedNodesPass()(split)
    expected = {"Identity": 1, "Reshape": 7, "Expand": 2, "Gather": 4, "Squeeze": 4, "Mul": 2, "Add": 1}
    assert Counter(node.op_type for node in split.graph) == expected
