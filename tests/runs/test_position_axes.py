"""A multimodal family's text model: positions with three axes are exported, checked with triples, and diagnosed."""

import shutil

import numpy as np
import onnx
import pytest
import transformers as hf
from onnx import numpy_helper

from rope_deploy import api
from rope_deploy.artifact import load_manifest
from rope_deploy.models import wrap
from tests.sweep import swept
from tests.tiny import LLAMA, fresh, plain_config

TEXT = {**LLAMA, "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}}
VISION = {"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "patch_size": 4, "mlp_ratio": 2}
TOKENS = {"image_token_id": 90, "video_token_id": 91, "vision_start_token_id": 92, "vision_end_token_id": 93}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    config = hf.Qwen2VLConfig(text_config=TEXT, vision_config=VISION, **TOKENS)
    model = fresh(hf.Qwen2VLForConditionalGeneration, config)
    loaded = wrap(model, plain_config(model), source="tiny-qwen2_vl")
    folder = tmp_path_factory.mktemp("axes") / "artifact"
    api.export(loaded, folder, styles=["tables", "onnx", "contrib", "plugin"])
    return loaded, folder


@pytest.mark.slow
def test_every_style_passes_with_triples(exported):
    loaded, folder = exported
    manifest = load_manifest(folder / "onnx")
    assert manifest.position_axes == 3 and manifest.rotations[0].axes == (0, 0, 1, 1, 1, 2, 2, 2)
    report = api.check(folder, model=loaded, quick=True)
    assert report.verdict == "passed", [record.message for record in report.checks if record.verdict == "failed"]


def swapped(masks):
    return masks[::-1]


def flattened(masks):
    return [np.zeros_like(mask) for mask in masks]


@pytest.mark.parametrize(("change", "code"), swept([(swapped, "RD209"), (flattened, "RD210")], ()))
def test_axes_taken_wrongly_are_named(exported, tmp_path, change, code):
    """The graph picks each pair's axis by a mask: exchange the masks, or never pick another axis."""
    loaded, folder = exported
    broken = tmp_path / "broken"
    shutil.copytree(folder / "tables", broken)
    model = onnx.load(broken / "model.onnx", load_external_data=False)
    masks = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.BOOL]
    assert len(masks) == 2
    for tensor, array in zip(masks, change([numpy_helper.to_array(mask) for mask in masks])):
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, broken / "model.onnx")
    report = api.check(broken, model=loaded, quick=True, ignore_hashes=True)
    assert [record.code for record in report.diagnoses] == [code]
    assert report.diagnoses[0].layers == (0, 1) and report.diagnoses[0].roles == ("q", "k")
