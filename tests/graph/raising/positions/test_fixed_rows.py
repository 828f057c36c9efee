"""Graphs without positions: cosines and sines are distinguished from weights; a token's row is its position."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from rope_deploy.errors import UnmatchedRotation
from rope_deploy.graph.lower.lower_rotations import lower_rotations
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from rope_deploy.styles import STYLES
from tests import towers

TOKENS, HEADS, HEAD = 6, 2, 8
ANGLES = np.random.default_rng(0).uniform(-3, 3, (TOKENS, HEAD // 2)).astype(np.float32)


def graph(cos: np.ndarray, sin: np.ndarray, *, batch: str | int | None = "batch", heads_first: bool = True) -> ir.Model:
    """x·cos + rotate_half(x)·sin with constants [S, H], x [B, N, S, H], [B, S, N, H] or, without a batch, [S, N, H]."""
    inner = (HEADS, TOKENS) if heads_first else (TOKENS, HEADS)
    shape = ", ".join(map(str, (*(() if batch is None else (batch,)), *inner, HEAD)))
    rows = f"{TOKENS},{HEAD}" if heads_first else f"{TOKENS},1,{HEAD}"
    flat = ", ".join(f"{v:.9g}" for v in np.concatenate([cos, cos], -1).reshape(-1))
    sines = ", ".join(f"{v:.9g}" for v in np.concatenate([sin, sin], -1).reshape(-1))
    return ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["" : 18]>
        tower (float[{shape}] pixel_values) => (float[{shape}] y)
        <float[{rows}] cos = {{{flat}}}, float[{rows}] sin = {{{sines}}},
         int64[1] zero = {{0}}, int64[1] half = {{{HEAD // 2}}}, int64[1] end = {{{HEAD}}}, int64[1] last = {{-1}}>
        {{
            x = Identity(pixel_values)
            a = Slice(x, zero, half, last)
            b = Slice(x, half, end, last)
            n = Neg(b)
            r = Concat<axis=-1>(n, a)
            p = Mul(x, cos)
            s = Mul(r, sin)
            y = Add(p, s)
        }}"""
    )


def shaped(model: ir.Model) -> ir.Model:
    from onnx_ir.passes import common

    common.ShapeInferencePass()(model)
    return model


@pytest.mark.parametrize("batch", ["batch", 3, None])
@pytest.mark.parametrize("heads_first", [True, False])
def test_a_constant_table_is_raised_with_a_row_for_each_token(batch, heads_first):
    raised = raise_rotations(shaped(graph(np.cos(ANGLES), np.sin(ANGLES), batch=batch, heads_first=heads_first)), 4096)
    (rotation,), (marker,) = raised.rotations, raised.markers()
    assert (rotation.max_position, rotation.rotary_dim, rotation.interleaved) == (TOKENS, HEAD, False)
    np.testing.assert_array_equal(rotation.table.cos, np.cos(ANGLES))
    np.testing.assert_array_equal(rotation.table.sin, np.sin(ANGLES))
    assert marker.inputs[1].shape[1] == TOKENS
    assert len(marker.inputs[0].shape) == 4


def test_weights_that_are_no_cosines_and_sines_are_left_alone():
    with pytest.raises(UnmatchedRotation, match="no rotary position embedding"):
        raise_rotations(shaped(graph(ANGLES, ANGLES**2)), 4096)


def test_rotations_of_a_tower_are_numbered_in_the_order_in_which_they_run():
    raised = towers.prepared("dinov3").raised
    sites = [(node.attributes["layer"].value, node.attributes["role"].value) for node in raised.markers()]
    assert sites == [(0, "q"), (0, "k"), (1, "q"), (1, "k")]
    assert len(raised.rotations) == 1


def halves_apart() -> ir.Model:
    """The first half of each head is rotated by rows and the second by columns, each half-split: x [B, N, S, H]."""
    half, quarter = HEAD // 2, HEAD // 4
    tables = []
    for part in (ANGLES[:, :quarter], ANGLES[:, quarter:]):
        for table in (np.cos(part), np.sin(part)):
            tables.append(", ".join(f"{v:.9g}" for v in np.concatenate([table, table], -1).reshape(-1)))
    kind = f"float[{TOKENS},{half}]"
    shape = f"batch, {HEADS}, {TOKENS}, {HEAD}"
    rotations = "\n".join(
        f"""x{n}a, x{n}b = Split<axis=-1>(x{n}, quarters)
            n{n} = Neg(x{n}b)
            r{n} = Concat<axis=-1>(n{n}, x{n}a)
            p{n} = Mul(x{n}, cos{n})
            s{n} = Mul(r{n}, sin{n})
            y{n} = Add(p{n}, s{n})"""
        for n in (0, 1)
    )
    return ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["" : 18]>
        tower (float[{shape}] pixel_values) => (float[{shape}] y)
        <{kind} cos0 = {{{tables[0]}}}, {kind} sin0 = {{{tables[1]}}},
         {kind} cos1 = {{{tables[2]}}}, {kind} sin1 = {{{tables[3]}}},
         int64[2] halves = {{{half}, {half}}}, int64[2] quarters = {{{quarter}, {quarter}}}>
        {{
            x = Identity(pixel_values)
            x0, x1 = Split<axis=-1>(x, halves)
            {rotations}
            y = Concat<axis=-1>(y0, y1)
        }}"""
    )


@pytest.mark.parametrize("style", STYLES)
def test_halves_with_a_rotation_each_are_one_rotation_and_keep_the_order_of_elements(style):
    model = shaped(halves_apart())
    x = np.random.default_rng(1).standard_normal((2, HEADS, TOKENS, HEAD), np.float32)
    want = ran(model, x)
    raised = raise_rotations(model, 4096)
    (rotation,) = raised.rotations
    assert rotation.element_order == (0, 1, 4, 5, 2, 3, 6, 7)
    assert len(raised.markers()) == 1
    np.testing.assert_allclose(ran(lower_rotations(raised, style).model, x), want, atol=1e-6)


def ran(model: ir.Model, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"pixel_values": x})[0]
