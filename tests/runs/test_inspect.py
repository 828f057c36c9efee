"""`inspect` reads models, artifacts, graphs and engines without running them."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from rope_deploy import api
from rope_deploy.errors import ModelError, UsageError
from tests import tiny


def test_a_model_shows_its_rule_without_its_weights(source, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(source / "config.json", bare)
    config = json.loads((bare / "config.json").read_text())
    found = api.inspect(str(source))
    (rotation,) = found.rotations
    assert found.kind == "model"
    assert rotation.spec["head_dim"] == config["head_dim"]


@pytest.mark.parametrize(
    ("stated", "where"),
    [
        ({"model_type": "llama"}, {"rope": "all layers"}),
        ({"model_type": "smollm3", "no_rope_layers": [1, 0]}, {"rope": "layer 0"}),
        ({"model_type": "gemma3_text"}, {"full_attention": "none of its layers", "sliding_attention": "all layers"}),
        ({"model_type": "granite", "layer_rope_theta": [1e4, 0]}, {"rope": "layer 0"}),
        ({"model_type": "granite", "layer_rope_theta": [1e4, 5e5]}, dict.fromkeys(
            ("rope_theta 10000", "rope_theta 500000"), "some of its layers")),
    ],
)  # fmt: skip
def test_a_model_shows_the_layers_that_rotate_as_its_configuration_says(tmp_path, stated, where):
    config = {**tiny.LLAMA, **stated}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"unread": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    assert {rotation.name: rotation.where for rotation in api.inspect(str(tmp_path)).rotations} == where


@pytest.mark.parametrize("stray", [{}, {"rope_theta": 1e4}])
def test_a_model_that_does_not_rotate_shows_no_rotation_whatever_stray_key_it_has(tmp_path, stray):
    config = {"model_type": "bloom", "hidden_size": 64, "n_head": 4, "n_layer": 2, "vocab_size": 96, **stray}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"unread": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    for command in (lambda: api.inspect(str(tmp_path)), lambda: api.export(str(tmp_path), tmp_path / "out")):
        with pytest.raises(ModelError, match="A bloom model has no rotary position embedding"):
            command()


@pytest.mark.parametrize("style", ["tables", "onnx", "contrib", "plugin"])
def test_an_artifact_shows_form_sites_and_table(artifacts, style):
    found = api.inspect(str(artifacts / style))
    assert found.facts["style"].startswith(style)
    assert found.facts["Cos and Sin at run time"] == "0"
    assert "none" not in found.facts["forms"]
    assert found.facts["patched in the trace"] == "own-attention"
    assert found.rotations[0].where.startswith("layers 0–1")


def test_a_changed_artifact_says_so_first(artifacts, tmp_path):
    changed = shutil.copytree(artifacts / "tables", tmp_path / "changed")
    (changed / "config.json").write_text("{}")
    assert "config.json" in api.inspect(str(changed)).hazards[0]
    assert not any("Changed" in hazard for hazard in api.inspect(str(artifacts / "tables")).hazards)


def test_a_bare_graph_shows_its_operators(artifacts):
    found = api.inspect(str(artifacts / "onnx" / "model.onnx"))
    assert found.kind == "graph"
    assert "RotaryEmbedding" in found.facts["forms"]


def test_what_is_nothing_known_is_refused(tmp_path):
    rubbish = tmp_path / "rubbish.onnx"
    rubbish.write_text("this is no protobuf")
    with pytest.raises(UsageError, match="not an ONNX file"):
        api.inspect(str(rubbish))
    with pytest.raises(UsageError, match="no file"):
        api.inspect(str(tmp_path / "absent.onnx"))
    with pytest.raises(ModelError):
        api.inspect(str(tmp_path / "absent"))


@pytest.mark.slow
def test_an_encoder_that_counts_its_own_positions_still_shows_its_rotations(tmp_path):
    model = tiny.loaded("modernbert")
    api.export(model, tmp_path / "encoder", styles=("tables",))
    found = api.inspect(str(tmp_path / "encoder"))
    assert found.facts["forms"] == f"{2 * model.layers} × multiply-add in standard operators"
    assert any("position_ids" in hazard for hazard in found.hazards)


def test_several_artifacts_and_files_of_no_known_kind_have_different_messages(artifacts, tmp_path):
    with pytest.raises(UsageError, match="holds several artifacts") as caught:
        api.inspect(str(artifacts))
    assert "onnx" in caught.value.exists
    page = tmp_path / "README.md"
    page.write_text("# A page")
    with pytest.raises(UsageError, match="a file of an unknown kind") as caught:
        api.inspect(str(page))
    assert "an engine" in caught.value.todo
