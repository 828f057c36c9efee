"""An opset 17 graph computes the same as one of opset 18."""

import numpy as np
import onnx
import onnx_ir as ir

from rope_deploy.graph.passes.raise_to_opset_18 import RaiseToOpset18Pass
from tests.graph.graphs import run

MEAN_OF_HALVES = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[a, 4] x) => (float[a, 1] y)
{ first, second = Split <axis = 1> (x)
  y = ReduceMean <axes = [1], keepdims = 1> (first) }"""
X = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}


def test_reductions_and_splits_are_written_anew():
    model = ir.from_onnx_text(MEAN_OF_HALVES)
    assert RaiseToOpset18Pass()(model).modified
    assert model.graph.opset_imports[""] == 18
    assert [node.op_type for node in model.graph] == ["Split", "ReduceMean"]
    onnx.checker.check_model(ir.to_proto(model))
    np.testing.assert_allclose(run(model, X)["y"], X["x"][:, :2].mean(axis=1, keepdims=True), rtol=1e-6)


def test_a_newer_graph_stays():
    model = ir.from_onnx_text(MEAN_OF_HALVES)
    RaiseToOpset18Pass()(model)
    assert not RaiseToOpset18Pass()(model).modified
