"""A convolution beside attention: its state is an input and an output of the graph, checked like the rest."""

import shutil

import onnx
import pytest
import transformers as hf

from rope_deploy import api
from rope_deploy.artifact import load_manifest
from rope_deploy.models import wrap
from tests.tiny import LLAMA, fresh, plain_config


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = fresh(hf.Lfm2ForCausalLM, hf.Lfm2Config(**LLAMA, layer_types=["conv", "full_attention"]))
    loaded = wrap(model, plain_config(model), source="tiny-lfm2")
    folder = tmp_path_factory.mktemp("states") / "artifact"
    api.export(loaded, folder, styles=["tables", "onnx", "contrib", "plugin"])
    return loaded, folder


@pytest.mark.slow
def test_every_style_passes_with_its_states(exported):
    loaded, folder = exported
    manifest = load_manifest(folder / "onnx")
    assert manifest.past_names == ("past_key_values.0.conv", "past_key_values.1.key", "past_key_values.1.value")
    assert next(info.shape for info in manifest.inputs if info.name.endswith("conv")) == ("batch", 64, 3)
    report = api.check(folder, model=loaded, quick=True)
    assert report.verdict == "passed", [record.message for record in report.checks if record.verdict == "failed"]


@pytest.mark.slow
def test_a_state_that_stays_behind_fails(exported, tmp_path):
    """The state that goes out is the one that came in."""
    loaded, folder = exported
    broken = tmp_path / "broken"
    shutil.copytree(folder / "tables", broken)
    model = onnx.load(broken / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == "present.0.conv":
                node.output[index] = "right"
    model.graph.node.add(op_type="Identity", input=["past_key_values.0.conv"], output=["present.0.conv"], name="stale")
    onnx.save(model, broken / "model.onnx")
    report = api.check(broken, model=loaded, quick=True, ignore_hashes=True)
    failed = [record.message for record in report.checks if record.verdict == "failed"]
    assert any("conv of layer 0 (present.0.conv)" in message for message in failed), failed
