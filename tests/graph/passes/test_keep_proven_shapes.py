"""The shapes in a file are true in every call, whatever style it is written in."""

import onnx
import onnx_ir as ir
import pytest

from rope_deploy.artifact import MODEL_NAME
from rope_deploy.export import write
from rope_deploy.graph.passes.keep_proven_shapes import KeepProvenShapesPass
from rope_deploy.graph.reading.declared_inputs import inputs_of
from rope_deploy.runs.trial_calls import Sizes, feeds
from rope_deploy.styles import STYLES
from tests import tiny
from tests.families.prepared import prepared
from tests.shapes import false_shapes, stated
from tests.sweep import swept

CALLS = (Sizes(2, 0, 5), Sizes(3, 4, 1), Sizes(1, 2, 3))


@pytest.mark.parametrize("family", swept(tiny.FAMILIES, ["llama"]))
def test_an_exported_file_states_true_shapes(family, tmp_path):
    ready = prepared(family)
    for style in STYLES:
        path = tmp_path / style / MODEL_NAME
        write(ready, tmp_path / style, style)
        assert len(stated(path)) > 50
        for sizes in CALLS if ready.cache else CALLS[:1]:
            assert false_shapes(path, feeds(inputs_of(path), sizes)) == []


def test_a_false_name_is_found(tmp_path):
    write(prepared("qwen2"), tmp_path / "tables", "tables")
    path = tmp_path / "tables" / MODEL_NAME
    model = onnx.load(path, load_external_data=False)
    one = next(v for v in model.graph.value_info if len(v.type.tensor_type.shape.dim) == 4)
    one.type.tensor_type.shape.dim[-1].dim_param = "sequence"
    onnx.save(model, path)
    assert any(one.name in message for message in false_shapes(path, feeds(inputs_of(path), CALLS[0])))


def test_a_guessed_shape_is_replaced_by_the_one_that_follows():
    model = ir.from_onnx_text("""
<ir_version: 10, opset_import: ["" : 18]>
g (float[batch, 4] x) => (float[batch, 4] y) { middle = Neg(x)  y = Abs(middle) }""")
    declared = {value.name: value.shape for value in (*model.graph.inputs, *model.graph.outputs)}
    model.graph[0].outputs[0].shape = ir.Shape(["sequence", 4])
    assert KeepProvenShapesPass(declared)(model).modified
    assert model.graph[0].outputs[0].shape == ir.Shape(["batch", 4])
    assert not KeepProvenShapesPass(declared)(model).modified
