"""Two texts at once: exported for the lengths of its example, every rotation of both halves accounted for."""

import shutil

import onnx
import pytest
import torch
import transformers as hf

from rope_deploy import api
from rope_deploy.artifact import load_manifest
from rope_deploy.models import trace, wrap
from rope_deploy.models.example_inputs import Example
from tests.tiny import LLAMA, fresh, plain_config

HALF = {**LLAMA, "head_dim": 16, "query_pre_attn_scalar": 16, "layer_types": ["sliding_attention", "full_attention"]}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    half = hf.T5GemmaModuleConfig(**HALF)
    config = hf.T5GemmaConfig(encoder=half, decoder=half, vocab_size=LLAMA["vocab_size"])
    model = fresh(hf.T5GemmaForConditionalGeneration, config)
    loaded = wrap(model, plain_config(model), source="tiny-t5gemma")
    folder = tmp_path_factory.mktemp("two") / "artifact"
    api.export(loaded, folder, styles=["tables", "onnx", "contrib", "plugin"])
    return loaded, folder


@pytest.mark.slow
def test_every_style_passes(exported):
    loaded, folder = exported
    manifest = load_manifest(folder / "onnx")
    assert [(info.name, info.shape) for info in manifest.inputs] == [
        ("input_ids", ("batch", 7)),
        ("decoder_input_ids", ("batch", 5)),
    ]
    assert len(manifest.sites) == 8 and sorted(r.rows for r in manifest.rotations) == [5, 7]
    report = api.check(folder, model=loaded)
    assert report.verdict == "passed", [record.message for record in report.checks if record.verdict == "failed"]


@pytest.mark.slow
def test_a_half_that_rotates_in_the_other_direction_is_named(exported, tmp_path):
    loaded, folder = exported
    broken = tmp_path / "broken"
    shutil.copytree(folder / "onnx", broken)
    manifest = load_manifest(broken)
    writing = next(rotation for rotation in manifest.rotations if rotation.rows == 5)
    model = onnx.load(broken / "model.onnx")
    (table,) = (tensor for tensor in model.graph.initializer if tensor.name == writing.sin_cache)
    table.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(table), table.name))
    onnx.save(model, broken / "model.onnx", save_as_external_data=False)
    report = api.check(broken, model=loaded, ignore_hashes=True)
    (found,) = {(one.code, one.layers) for one in report.diagnoses}
    assert found == ("RD102", (2, 3))


@pytest.mark.slow
def test_one_tensor_for_both_texts_stays_two_inputs(exported):
    loaded, _ = exported
    ids = torch.arange(5, 19).reshape(2, 7)
    graph = trace(loaded, example=Example({"input_ids": ids, "decoder_input_ids": ids})).model.graph
    assert [value.name for value in graph.inputs] == ["input_ids", "decoder_input_ids"]
    assert all(value.uses() for value in graph.inputs), "both are read"
