"""Equal constants and equal nodes are one; tables of rotations stay apart (see test_sequences)."""

import onnx_ir as ir

from rope_deploy.graph.passes.merge_equal import MergeEqualPass

TWICE = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[a, 2] x) => (float[a, 2] y) <float[2] one = {1, 1}, float[2] uno = {1, 1}>
{ left = Add(x, one)
  right = Add(x, uno)
  y = Mul(left, right) }"""


def test_equal_constants_make_equal_nodes_one():
    model = ir.from_onnx_text(TWICE)
    assert MergeEqualPass(16)(model).modified
    assert sorted(node.op_type for node in model.graph) == ["Add", "Mul"]
    assert not MergeEqualPass(16)(model).modified


def test_constants_above_the_limit_are_not_compared():
    model = ir.from_onnx_text(TWICE)
    assert not MergeEqualPass(1)(model).modified
    assert sorted(node.op_type for node in model.graph) == ["Add", "Add", "Mul"]
