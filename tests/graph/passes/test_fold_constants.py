"""What depends on constants alone is computed, as far as it is small."""

import onnx_ir as ir

from rope_deploy.graph.passes.fold_constants import FoldConstantsPass

LIMIT = 16
SUM = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[a, 2] x) => (float[a, 2] y) <float[2] one = {1, 1}, float[2] two = {2, 2}>
{ three = Add(one, two)
  y = Mul(x, three) }"""
LARGE = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[a] x) => (float[a] y) <int64[1] size = {1000000}, int64[1] axis = {0}>
{ many = ConstantOfShape(size)
  total = ReduceSum<keepdims: int = 1>(many, axis)
  y = Mul(x, total) }"""


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph if node.op_type != "Constant"]


def test_a_sum_of_constants_becomes_a_constant():
    model = ir.from_onnx_text(SUM)
    assert FoldConstantsPass(LIMIT)(model).modified
    assert operators(model) == ["Mul"]


def test_constants_above_the_limit_are_not_read():
    model = ir.from_onnx_text(SUM)
    assert not FoldConstantsPass(1)(model).modified
    assert operators(model) == ["Add", "Mul"]


def test_a_large_result_is_not_computed():
    model = ir.from_onnx_text(LARGE)
    FoldConstantsPass(LIMIT)(model)
    assert operators(model) == ["ConstantOfShape", "ReduceSum", "Mul"]
