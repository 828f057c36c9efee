"""Axes have our names, and past + sequence is total."""

import onnx_ir as ir

from rope_deploy.graph.passes.rename_axes import RenameAxesPass


def axes(*dims: int | str) -> list[int | str | None]:
    model = ir.from_onnx_text("""
<ir_version: 10, opset_import: ["" : 18]>
g (float[b, s] x) => (float[b, s] y) { y = Neg(x) }""")
    model.graph[0].outputs[0].shape = ir.Shape(dims)
    RenameAxesPass({"b": "batch", "s": "sequence", "p": "past", "n + 1": "total"})(model)
    return [dim if isinstance(dim, int) else dim.value for dim in model.graph[0].outputs[0].shape]


def test_names_of_the_file_become_ours():
    assert axes("b", "s", 8) == ["batch", "sequence", 8]


def test_past_and_sequence_are_the_total_in_either_order():
    assert axes("p + s", "s + p", "n + 1") == ["total", "total", "total"]


def test_other_names_stay():
    assert axes("heads", "b*s", None) == ["heads", "b*s", None]
