"""A custom operator says by its attributes what its body does, or is called out."""

import onnx
import pytest
from onnx import helper

from rope_deploy import api
from rope_deploy.graph.reading.plugin_bodies import contradictions
from tests import tiny
from tests.sweep import swept


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module", params=swept(["float32", "float16"], ["float32"]))
def exported(folder, request):
    source = tiny.save_family("phi3", folder / f"phi3-{request.param}")
    api.export(str(source), folder / request.param, styles=("plugin",), dtype=request.param)
    return folder / request.param / "model.onnx"


@pytest.fixture
def model(exported):
    return onnx.load(exported, load_external_data=False)


def attribute(model, name, value):
    for node in model.graph.node:
        if node.domain == "rope_deploy":
            kept = [one for one in node.attribute if one.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, *([] if value is None else [helper.make_attribute(name, value)])])


@pytest.mark.slow
def test_what_is_exported_agrees(model):
    assert sum(node.domain == "rope_deploy" for node in model.graph.node) == 2
    assert not list(contradictions(model))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("interleaved", 1, "does not rotate as its attributes say"),
        ("interleaved", 7, "name no rotation"),
        ("heads_axis", 2, "body does not t"),
        ("rotary_dim", 4, "body does not t"),
        ("rotary_dim", 3, "name no rotation"),
        ("head_dim", 2**40, "name no rotation"),
        ("head_dim", None, "are not all there"),
        ("head_dim", "wide", "are not all there"),
        ("norm_eps", 1e-6, "its body does nothing of that"),
        ("sections", [2, 2, 2], "its body does nothing of that"),
    ],
)
def test_attributes_that_the_body_does_not_obey(model, name, value, message):
    attribute(model, name, value)
    assert [message in fault for fault in contradictions(model)] == [True], list(contradictions(model))


def test_a_body_that_does_otherwise(model):
    (function,) = model.functions
    (last,) = [node for node in function.node if node.output[0] == function.output[0]]
    last.op_type, last.input[:] = "Identity", last.input[:1]
    del last.attribute[:]
    assert len(list(contradictions(model))) == 1
    del model.functions[:]
    assert "it has no body" in next(contradictions(model))
