"""A product with a reciprocal root is the same number as a division, up to a rounding."""

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.passes.divide_by_root import DivideByRootPass
from tests.graph.graphs import run
from tests.graph.passes.rms_graph import NORM, X, operators


def test_a_reciprocal_root_becomes_a_division():
    model, before = ir.from_onnx_text(NORM), run(ir.from_onnx_text(NORM), X)["y"]
    assert DivideByRootPass()(model).modified
    assert operators(model) == ["Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"]
    np.testing.assert_allclose(run(model, X)["y"], before, rtol=1e-6)


def test_a_reciprocal_of_anything_else_is_left_alone():
    model = ir.from_onnx_text(NORM.replace("Sqrt(", "Exp("))
    assert not DivideByRootPass()(model).modified
    assert operators(model) == ["Pow", "ReduceMean", "Add", "Exp", "Reciprocal", "Mul", "Mul"]


def test_a_reciprocal_that_is_read_elsewhere_too_stays_for_that_reader():
    both = NORM.replace("y = Mul(weight, normal) }", "scaled = Mul(weight, normal)\n y = Add(scaled, inverse) }")
    model, before = ir.from_onnx_text(both), run(ir.from_onnx_text(both), X)["y"]
    assert DivideByRootPass()(model).modified
    assert operators(model) == ["Pow", "ReduceMean", "Add", "Sqrt", "Reciprocal", "Div", "Mul", "Add"]
    np.testing.assert_allclose(run(model, X)["y"], before, rtol=1e-6)
