"""Simplifying: equal things become one thing, and no result changes."""

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.passes.sequences import run as run_passes
from rope_deploy.graph.passes.sequences import simplify
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
    run_passes(model, simplify())
    assert sorted(node.op_type for node in model.graph) == ["Add", "Mul", "Mul"]
    np.testing.assert_array_equal(run(model, X)["y"], before)


def test_different_constants_stay_apart():
    model = ir.from_onnx_text(
        REPEATED.replace("uno = Constant <value_floats = [1.0]>", "uno = Constant <value_floats = [2.0]>")
    )
    run_passes(model, simplify())
    assert sorted(node.op_type for node in model.graph) == ["Add", "Add", "Mul", "Mul"]


def test_equal_tables_of_two_rotations_stay_two():
    """Small ones, of a short context, would be merged as any constants are; a manifest would name one that is gone."""
    model = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 18]>
        g (float[a, 4] x) => (float[a, 4] y)
        <float[4] rope_0.cos_cache = {1, 2, 3, 4}, float[4] rope_1.cos_cache = {1, 2, 3, 4},
         float[4] one = {1, 2, 3, 4}, float[4] uno = {1, 2, 3, 4}>
        { a = Mul(x, rope_0.cos_cache)  b = Mul(a, rope_1.cos_cache)  c = Add(b, one)  y = Add(c, uno) }""".replace(
            "rope_0.cos_cache", '"rope_0.cos_cache"'
        ).replace("rope_1.cos_cache", '"rope_1.cos_cache"')
    )
    run_passes(model, simplify())
    assert {name for name in model.graph.initializers if name.endswith("cos_cache")} == {
        "rope_0.cos_cache",
        "rope_1.cos_cache",
    }
    assert len(model.graph.initializers) == 3
    np.testing.assert_allclose(run(model, X)["y"], X["x"] * [1, 4, 9, 16] + [2, 4, 6, 8], rtol=1e-6)
