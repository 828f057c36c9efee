"""Opsets: rewritten where it can be, refused with the operator's name where it cannot."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rope_deploy.errors import UsageError
from rope_deploy.graph.passes.set_opset import SetOpsetPass, oldest_fitting
from tests.graph.graphs import run

MEAN = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[a, 4] x) => (float[a, 1] y)
<int64[1] axes = {-1}>
{ y = ReduceMean <keepdims = 1, noop_with_empty_axes = 0> (x, axes) }"""
GELU = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[a, 4] x) => (float[a, 4] y)
{ y = Gelu <approximate = "{how}"> (x) }"""
CAST = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[a, 4] x) => (float16[a, 4] y)
{ y = Cast <to = 10, saturate = {how}> (x) }"""


def test_reductions_take_their_axes_as_an_attribute_before_18():
    model = ir.from_onnx_text(MEAN)
    SetOpsetPass(17)(model)
    assert model.graph[0].attributes["axes"].value == (-1,)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(run(model, {"x": x})["y"], x.mean(axis=-1, keepdims=True))
    onnx.checker.check_model(ir.to_proto(model))


def test_an_operator_that_is_missing_is_named_with_the_opset_that_has_it():
    with pytest.raises(UsageError, match="Opset 19 has no Gelu") as caught:
        SetOpsetPass(19)(ir.from_onnx_text(GELU.replace("{how}", "none")))
    assert "--opset 20" in caught.value.todo


def test_the_advice_holds_also_where_the_graph_was_rewritten_for_17():
    both = MEAN.replace("ReduceMean", "ReduceMean").replace("y = ", "m = ").replace(
        "(x, axes) }", "(x, axes)\n y = Gelu(m) }"
    )  # fmt: skip
    with pytest.raises(UsageError) as caught:
        SetOpsetPass(17)(ir.from_onnx_text(both.replace('"" : 18', '"" : 20')))
    assert "--opset 20" in caught.value.todo


def test_an_attribute_that_states_the_default_is_dropped_for_an_opset_without_it():
    model = ir.from_onnx_text(CAST.replace("{how}", "1"))
    SetOpsetPass(18)(model)
    assert list(model.graph[0].attributes) == ["to"]
    onnx.checker.check_model(ir.to_proto(model))


def test_an_attribute_that_states_anything_else_is_not():
    with pytest.raises(UsageError, match="Opset 18 has no Cast in the form"):
        SetOpsetPass(18)(ir.from_onnx_text(CAST.replace("{how}", "0")))


@pytest.mark.parametrize("opset", [16, 99])
def test_opsets_outside_the_range_are_refused(opset):
    with pytest.raises(UsageError, match="is not supported"):
        SetOpsetPass(opset)(ir.from_onnx_text(MEAN))


def test_the_oldest_fitting_opset_is_the_first_that_has_everything():
    assert oldest_fitting(ir.from_onnx_text(GELU.replace("{how}", "tanh")), 18) == 20
    assert oldest_fitting(ir.from_onnx_text(MEAN), 18) == 18


def test_a_graph_written_for_an_opset_stays_for_it():
    model = ir.from_onnx_text(MEAN)
    assert not SetOpsetPass(18)(model).modified
    assert SetOpsetPass(17)(model).modified
