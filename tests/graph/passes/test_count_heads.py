"""The number of heads follows from the width and the head size."""

import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.graph.passes.count_heads import CountHeadsPass

HEADS = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[batch, sequence, 64] x) => (float[b, h, s, d] y)
<int64[2] end = {-1, 16}, int64[1] zero = {0}, int64[1] two = {2}>
{ shape = Shape(x)
  start = Slice(shape, zero, two)
  sizes = Concat <axis = 0> (start, end)
  heads = Reshape(x, sizes)
  y = Transpose <perm = [0, 2, 1, 3]> (heads) }"""


def shapes(model: ir.Model) -> dict[str, list]:
    values = (value for node in model.graph for value in node.outputs)
    return {value.name: [dim if isinstance(dim, int) else None for dim in value.shape or ()] for value in values}


def inferred() -> ir.Model:
    model = ir.from_onnx_text(HEADS)
    model.graph.outputs[0].shape = None
    common.ShapeInferencePass()(model)
    return model


def test_heads_are_counted_and_what_follows_from_them_is_inferred():
    model = inferred()
    model.graph[3].outputs[0].shape = ir.Shape(["batch", "sequence", None, 16])
    model.graph.outputs[0].shape = None
    assert CountHeadsPass()(model).modified
    assert shapes(model)["heads"][2:] == [4, 16]
    assert shapes(model)["y"][1] == 4
    assert not CountHeadsPass()(model).modified


def test_a_width_that_is_no_multiple_is_left_alone():
    model = inferred()
    model.graph[3].outputs[0].shape = ir.Shape(["batch", "sequence", None, 24])
    assert not CountHeadsPass()(model).modified
