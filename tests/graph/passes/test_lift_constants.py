"""Constants are initializers, whatever attribute they were written with."""

import onnx_ir as ir

from rope_deploy.graph.passes.lift_constants import LiftConstantsPass

CONSTANTS = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[a] x) => (float[a] y)
{ one = Constant <value_floats = [1.0]> ()
  y = Add(x, one) }"""


def test_a_constant_becomes_an_initializer():
    model = ir.from_onnx_text(CONSTANTS)
    assert LiftConstantsPass()(model).modified
    assert [node.op_type for node in model.graph] == ["Add"] and list(model.graph.initializers) == ["one"]
    assert not LiftConstantsPass()(model).modified


def test_strings_become_the_tensors_that_onnx_ir_reads_from_files():
    model = ir.from_onnx_text("""
<ir_version: 10, opset_import: ["" : 18]>
g (string[a] x) => (bool[a] y)
{ word = Constant <value_strings = ["one"]> ()
  y = Equal(x, word) }""")
    assert LiftConstantsPass()(model).modified
    tensor = model.graph.initializers["word"].const_value
    assert isinstance(tensor, ir.StringTensor) and tensor.numpy().tolist() == [b"one"]
