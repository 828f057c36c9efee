"""RMS normalisation becomes the operator, with its weight and its epsilon, or stays."""

import numpy as np
import onnx_ir as ir
import pytest

from rope_deploy.graph.passes.divide_by_root import DivideByRootPass
from rope_deploy.graph.passes.fuse_rms_normalization import FuseRmsNormalizationPass
from tests.graph.graphs import run
from tests.graph.passes.rms_graph import NORM, X, operators


def test_the_chain_becomes_the_operator_with_its_epsilon():
    model, before = ir.from_onnx_text(NORM), run(ir.from_onnx_text(NORM), X)["y"]
    DivideByRootPass()(model)
    assert FuseRmsNormalizationPass()(model).modified
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
    DivideByRootPass()(model)
    assert not FuseRmsNormalizationPass()(model).modified
    assert operators(model) == ["Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"]
    np.testing.assert_allclose(run(model, X)["y"], before, rtol=1e-6, equal_nan=True)
