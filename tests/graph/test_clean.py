"""Cleaning: equal things become one thing, and no result changes."""

import numpy as np
import onnx_ir as ir

from rope_deploy.graph import clean
from tests.graph.graphs import run

REPEATED = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[a, 4] x) => (float[a, 4] y)
{ one = Constant <value_floats = [1.0]> ()
  uno = Constant <value_floats = [1.0]> ()
  left = Add(x, one)
  right = Add(x, uno)
  same = Identity(right)
  two = Add(one, uno)
  product = Mul(left, same)
  unused = Exp(x)
  y = Mul(product, two) }"""
X = {"x": np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)}


def test_equal_nodes_merge_constants_fold_and_the_unused_goes():
    model = ir.from_onnx_text(REPEATED)
    before = run(ir.from_onnx_text(REPEATED), X)["y"]
    clean(model)
    assert sorted(node.op_type for node in model.graph) == ["Add", "Mul", "Mul"]
    np.testing.assert_array_equal(run(model, X)["y"], before)


def test_different_constants_stay_apart():
    model = ir.from_onnx_text(
        REPEATED.replace("uno = Constant <value_floats = [1.0]>", "uno = Constant <value_floats = [2.0]>")
    )
    clean(model)
    assert sorted(node.op_type for node in model.graph) == ["Add", "Add", "Mul", "Mul"]
