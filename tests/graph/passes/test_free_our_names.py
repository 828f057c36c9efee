"""Names that our own nodes are about to get are free, and inputs and outputs keep theirs."""

import onnx_ir as ir

from rope_deploy.graph.passes.free_our_names import FreeOurNamesPass

OURS = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[a, 2] x) => (float[a, 2] rope_out) <float[2] ints_1_5 = {1, 1}>
{ [rope] middle = Add(x, ints_1_5)
  rope_out = Neg(middle) }"""


def test_our_names_are_free_afterwards():
    model = ir.from_onnx_text(OURS)
    assert FreeOurNamesPass()(model).modified
    assert list(model.graph.initializers) == ["before/0/ints_1_5"]
    assert model.graph[0].name == "before/1/rope"
    assert model.graph.outputs[0].name == "rope_out"


def test_other_names_stay():
    model = ir.from_onnx_text(OURS.replace("[rope] ", "").replace("ints_1_5", "weight"))
    assert not FreeOurNamesPass()(model).modified
    assert list(model.graph.initializers) == ["weight"]
