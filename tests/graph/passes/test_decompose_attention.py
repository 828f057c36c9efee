"""Attention in old operators: equal to the operator, grouped or not, masked or not, and never NaN."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from rope_deploy.graph.passes.decompose_attention import DecomposeAttentionPass
from tests.graph.graphs import NUMPY_TYPES, run, run_slowly

S, T, H, HEADS = 3, 5, 8, 4


def graph(groups: int, *, mask: str | None = "bool", element: str = "float", extra: str = "") -> ir.Model:
    declared = f", {mask}[batch, 1, sequence, total] mask" if mask else ""
    model = ir.from_onnx_text(f"""
<ir_version: 11, opset_import: ["" : 23]>
g ({element}[batch, {HEADS}, sequence, {H}] q, {element}[batch, {groups}, total, {H}] k,
   {element}[batch, {groups}, total, {H}] v{declared}) => ({element}[batch, {HEADS}, sequence, {H}] y)
{{ y = Attention <scale = 0.3{extra}> (q, k, v{", mask" if mask else ""}) }}""")
    common.ShapeInferencePass()(model)
    return model


def feeds(groups: int, *, mask: str | None = "bool", dtype=np.float32) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0).standard_normal
    made = {"q": draw((2, HEADS, S, H)), "k": draw((2, groups, T, H)), "v": draw((2, groups, T, H))}
    made = {name: array.astype(dtype) for name, array in made.items()}
    if mask:
        seen = np.tril(np.ones((S, T), bool), T - S)[None, None].repeat(2, axis=0)
        seen[1, ..., 0] = False
        made["mask"] = seen if mask == "bool" else np.where(seen, 0, -1e4).astype(dtype)
    return made


def in_fp64(f: dict[str, np.ndarray], groups: int) -> np.ndarray:
    q, k, v = (f[name].astype(np.float64) for name in "qkv")
    k, v = (np.repeat(array, HEADS // groups, axis=1) for array in (k, v))
    scores = q @ k.transpose(0, 1, 3, 2) * 0.3
    if "mask" in f:
        scores += np.where(f["mask"], 0, -1e4) if f["mask"].dtype == bool else f["mask"]
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def expected_operators(groups: int, mask: str | None) -> Counter[str]:
    """Grouped heads need shapes of their own; so does a mask that meets them."""
    expected = Counter({"Mul": 1, "Transpose": 1, "MatMul": 2, "Softmax": 1})
    if groups != HEADS:
        expected += Counter({"Reshape": 2, "Shape": 1, "Concat": 1})
    if groups != HEADS and mask:
        expected += Counter({"Reshape": 2, "Shape": 2, "Concat": 2, "Unsqueeze": 1})
    if mask:
        expected += Counter({"Add": 1, "Where": int(mask == "bool")})
    return expected


@pytest.mark.parametrize("mask", ["bool", "float", None])
@pytest.mark.parametrize("groups", [4, 2, 1], ids=["every head its key", "grouped", "one key"])
def test_equals_attention_in_fp64(groups, mask):
    model, f = graph(groups, mask=mask), feeds(groups, mask=mask)
    assert DecomposeAttentionPass()(model).modified
    model.graph.opset_imports[""] = 18
    assert Counter(node.op_type for node in model.graph) == expected_operators(groups, mask)
    got = run(model, f)["y"]
    np.testing.assert_allclose(got, in_fp64(f, groups), atol=1e-5)
    if groups == 2:  # heads that go to the wrong key would be seen
        swapped = {**f, "k": f["k"][:, ::-1].copy()}
        assert np.abs(got - in_fp64(swapped, groups)).max() > 0.1
    if mask:  # and so would a mask that is not applied
        assert np.abs(got - in_fp64({k: v for k, v in f.items() if k != "mask"}, groups)).max() > 0.1


@pytest.mark.parametrize(("dtype", "runner", "tolerance"), [("float16", run, 5e-3), ("bfloat16", run_slowly, 4e-2)])
def test_half_types_work(dtype, runner, tolerance):
    model, f = graph(2, element=dtype), feeds(2, dtype=NUMPY_TYPES[dtype])
    DecomposeAttentionPass()(model)
    model.graph.opset_imports[""] = 18
    np.testing.assert_allclose(runner(model, f)["y"].astype(np.float64), in_fp64(f, 2), atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("groups", [4, 2])
def test_a_row_with_nothing_to_attend_to_stays_finite(groups, dtype):
    """Even where the scores are large: half the lowest number leaves them room."""
    model, f = graph(groups, element="float" if dtype is np.float32 else "float16"), feeds(groups, dtype=dtype)
    DecomposeAttentionPass()(model)
    model.graph.opset_imports[""] = 18
    f["mask"][1] = False
    f["q"] *= 30
    masked, other = run_slowly(model, f)["y"], run_slowly(model, {**f, "mask": np.ones_like(f["mask"])})["y"]
    assert np.isfinite(masked).all()
    assert np.abs(masked[1] - other[1]).max() > 0.1


LEFT = {
    "softcap": ", softcap = 5.0",
    "is_causal": ", is_causal = 1",
}


@pytest.mark.parametrize("attribute", LEFT)
def test_what_the_decomposition_does_not_know_is_left_as_it_is(attribute):
    model = graph(2, extra=LEFT[attribute])
    assert not DecomposeAttentionPass()(model).modified
    assert [node.op_type for node in model.graph] == ["Attention"]


def test_attributes_that_state_the_default_do_not_matter():
    assert DecomposeAttentionPass()(
        graph(2, extra=", softcap = 0.0, is_causal = 0, qk_matmul_output_mode = 0")
    ).modified


def test_a_mask_of_each_head_is_left_as_it_is():
    model = graph(2)
    model.graph.inputs[3].shape = ir.Shape(["batch", HEADS, "sequence", "total"])
    assert not DecomposeAttentionPass()(model).modified
