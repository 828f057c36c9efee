"""RMS normalisation: the same numbers in a spelling that runtimes know."""

import numpy as np
import onnx_ir as ir
import pytest

from rope_deploy.graph.passes import rms_normalization
from tests.graph.graphs import run

NORM = """
<ir_version: 11, opset_import: ["" : 23]>
g (float[a, 4] x) => (float[a, 4] y)
<float[4] weight = {1.0, 2.0, 3.0, 0.5}, float epsilon = {0.1}, int64[1] axes = {-1}, float two = {2.0}>
{ square = Pow(x, two)
  mean = ReduceMean(square, axes)
  shifted = Add(mean, epsilon)
  root = Sqrt(shifted)
  inverse = Reciprocal(root)
  normal = Mul(x, inverse)
  y = Mul(weight, normal) }"""
X = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_a_reciprocal_root_becomes_a_division():
    model, before = ir.from_onnx_text(NORM), run(ir.from_onnx_text(NORM), X)["y"]
    assert rms_normalization.divide_by_root(model) == 1
    assert "Reciprocal" not in operators(model) and "Div" in operators(model)
    np.testing.assert_allclose(run(model, X)["y"], before, rtol=1e-6)


def test_the_chain_becomes_the_operator_with_its_epsilon():
    model, before = ir.from_onnx_text(NORM), run(ir.from_onnx_text(NORM), X)["y"]
    rms_normalization.divide_by_root(model)
    assert rms_normalization.use_operator(model) == 1
    assert operators(model) == ["RMSNormalization"]
    after = run(model, X)["y"]
    np.testing.assert_allclose(after, before, rtol=1e-6)
    model.graph[0].attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.0)
    assert np.abs(run(model, X)["y"] - before).max() > 1e-3, "another epsilon would be seen"


NOT_A_NORM = {
    "a cube": ("two = {2.0}", "two = {3.0}"),
    "another axis": ("axes = {-1}", "axes = {0}"),
    "the square of something else": ("Pow(x, two)", "Pow(weight, two)"),
}


@pytest.mark.parametrize("case", NOT_A_NORM)
def test_what_only_looks_like_it_is_left_alone(case):
    text = NORM.replace(*NOT_A_NORM[case])
    model = ir.from_onnx_text(text)
    before = run(ir.from_onnx_text(text), X)["y"]
    rms_normalization.divide_by_root(model)
    assert rms_normalization.use_operator(model) == 0
    np.testing.assert_allclose(run(model, X)["y"], before, rtol=1e-6, equal_nan=True)
