"""What an artifact holds: the manifest states the graph, the files are hashed, weights are there once, no paths."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from rope_deploy.artifact import (
    MODEL_NAME,
    TOLERANCES,
    Limits,
    Site,
    changed_files,
    load_manifest,
)
from rope_deploy.errors import UsageError
from rope_deploy.export import prepare, write
from rope_deploy.models import load_model, trace
from rope_deploy.models.loading.folder_safety import PICKLES
from rope_deploy.options import ExportOptions
from rope_deploy.styles import STYLES
from tests import tiny
from tests.families.prepared import prepared
from tests.sweep import swept

FILES = {"config.json", "generation_config.json", MODEL_NAME}
KIB = 1024


def weights_of(folder: Path) -> Path:
    (found,) = folder.glob("model.onnx.*.data")
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("llama")
    for style in STYLES:
        write(prepared("llama"), out / style, style)
    write(prepared("llama"), out / "unfused", "contrib", fused_attention=False)
    return {path.name: path for path in out.iterdir()}


def test_the_manifest_says_what_was_asked_and_what_came_of_it(folders):
    manifest = load_manifest(folders["tables"])
    assert asdict(
        replace(manifest, inputs=(), outputs=(), sites=(), rotations=(), versions={}, files={})
    ) == {
        "source": "tiny-llama",
        "model_type": "llama",
        "task": "decoder",
        "cache": True,
        "layers": 2,
        "style": "tables",
        "opset": 18,
        "dtype": "float32",
        "angles": "model",
        "max_position": tiny.POSITIONS,
        "fused_attention": False,
        "inputs": (),
        "outputs": (),
        "rotations": (),
        "sites": (),
        "tolerances": asdict(TOLERANCES["float32"]),
        "vocab_size": tiny.VOCAB,
        "fixed": {},
        "limits": asdict(Limits()),
        "findings": (),
        "patches": ("own-attention",),
        "versions": {},
        "files": {},
        "schema_version": 2,
    }  # fmt: skip
    assert set(manifest.versions) == {"rope_deploy", "torch", "transformers", "onnx", "onnx-ir", "onnxscript"}
    assert "?" not in manifest.versions.values()


@pytest.mark.parametrize("style", [*STYLES, "unfused"])
def test_inputs_and_outputs_are_those_of_the_graph(folders, style):
    manifest = load_manifest(folders[style])
    graph = onnx.load(folders[style] / MODEL_NAME, load_external_data=False).graph

    def stated(values):
        return [(v.name, v.dtype, v.shape) for v in values]

    def found(values):
        for value in values:
            tensor = value.type.tensor_type
            dims = tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)
            yield value.name, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), dims

    assert stated(manifest.inputs) == list(found(graph.input))
    assert stated(manifest.outputs) == list(found(graph.output))
    assert manifest.result_name == "logits"
    assert len(manifest.past_names) == len(manifest.present_names) == 4


@pytest.mark.parametrize("style", [*STYLES, "unfused"])
def test_every_site_names_values_of_the_graph(folders, style):
    manifest = load_manifest(folders[style])
    model = onnx.load(folders[style] / MODEL_NAME, load_external_data=False)
    values = {name for node in model.graph.node for name in node.output}
    assert [(s.layer, s.role, s.num_heads, s.head_dim, s.rotation) for s in manifest.sites] == [
        (layer, role, heads, 16, "rope_0") for layer in (0, 1) for role, heads in (("q", 4), ("k", 2))
    ]
    for site in manifest.sites:
        named = [name for name in (site.input, site.output, site.present, site.scores) if name]
        assert named
        assert set(named) <= values
        assert (site.output is None) == (style == "contrib")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("family", swept(tiny.FAMILIES))
def test_every_site_of_every_family_can_be_looked_at(family, style, tmp_path):
    write(prepared(family), tmp_path / style, style)
    manifest = load_manifest(tmp_path / style)
    model = onnx.load(tmp_path / style / MODEL_NAME, load_external_data=False)
    values = {name for node in model.graph.node for name in node.output}
    named = [name for s in manifest.sites for name in (s.input, s.output, s.present, s.scores) if name]
    assert len(named) >= len(manifest.sites)
    assert set(named) <= values


def test_a_site_of_style_onnx_in_full(folders):
    site = load_manifest(folders["onnx"]).sites[0]
    assert site == Site(0, "q", "rope_0", 4, 16, "BS(NH)", "rope.0.q.in", "rope.0.q.out")


@pytest.mark.parametrize("style", [*STYLES, "unfused"])
def test_the_rotation_is_the_stated_rule_and_its_caches_are_half_width_and_shared(folders, style):
    (rotation,) = load_manifest(folders[style]).rotations
    spec = prepared("llama").loaded.specs[""]
    assert rotation.spec == spec.to_dict()
    assert (rotation.name, rotation.rows, rotation.cos_sin) == ("rope_0", tiny.POSITIONS, "table")
    caches = {t.name: t for t in onnx.load(folders[style] / MODEL_NAME).graph.initializer}
    for name in (rotation.cos_cache, rotation.sin_cache):
        # and one more row, for positions outside the table
        assert caches[name].dims == [rotation.rows + 1, spec.rotary_dim // 2]


def test_fused_attention_declares_what_it_cannot_do(folders):
    fused, unfused = (load_manifest(folders[name]) for name in ("contrib", "unfused"))
    assert fused.fused_attention
    assert not unfused.fused_attention
    assert unfused.limits == Limits()
    limits = fused.limits
    assert not (limits.left_padding or limits.chunked_prefill_batch or limits.prompt_positions)
    assert limits.padded_past
    assert "--no-fused-attention" in limits.note


@pytest.mark.slow
def test_a_fused_window_declares_more(tmp_path):
    write(prepared("mistral"), tmp_path / "fused", "contrib")
    assert not load_manifest(tmp_path / "fused").limits.padded_past


@pytest.mark.parametrize("style", [*STYLES, "unfused"])
def test_every_file_is_hashed_and_none_is_strange(folders, style, tmp_path):
    manifest = load_manifest(folders[style])
    weights = weights_of(folders[style]).name
    assert set(manifest.files) == {*FILES, weights}
    assert {path.name for path in folders[style].iterdir()} == {*FILES, weights, "rope_deploy.json"}
    assert weights == f"model.onnx.{manifest.files[weights].sha256[:12]}.data", "the name says what is in it"
    assert not any(name.endswith(PICKLES) for name in manifest.files)
    assert changed_files(folders[style], manifest) == []


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:-1] + b"\xff")])
def test_a_changed_file_is_noticed(tmp_path, damage):
    write(prepared("llama"), tmp_path / "artifact", "tables")
    weights = weights_of(tmp_path / "artifact")
    damage(weights)
    assert changed_files(tmp_path / "artifact", load_manifest(tmp_path / "artifact")) == [weights.name]


def test_the_record_counts_what_was_written(tmp_path):
    record = write(prepared("llama"), tmp_path / "artifact", "onnx")
    graph = onnx.load(tmp_path / "artifact" / MODEL_NAME).graph
    sizes = [p.stat().st_size for p in (tmp_path / "artifact").iterdir() if p.name != "rope_deploy.json"]
    assert (record.nodes, record.sites, record.rotations) == (len(graph.node), 4, 1)
    assert (record.style, record.folder, record.opset) == ("onnx", str(tmp_path / "artifact"), 23)
    assert (record.bytes, record.runtime_cos_sin, record.findings) == (sum(sizes), 0, ())
    assert sum(node.op_type in ("Cos", "Sin") for node in graph.node) == 0


@pytest.mark.slow
def test_a_rule_of_the_length_leaves_its_angles_in_the_graph_and_says_so(tmp_path):
    settings = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}
    loaded = tiny.loaded("llama", max_position_embeddings=32, rope_parameters=settings)
    record = write(prepare(loaded, ExportOptions(max_position=128)), tmp_path / "artifact", "tables")
    assert record.runtime_cos_sin > 0
    assert load_manifest(tmp_path / "artifact").rotations[0].cos_sin == "computed"


# Weights


def weight_bytes(model) -> int:
    return sum(p.numel() * p.element_size() for p in {id(p): p for p in model.parameters()}.values())


@pytest.mark.parametrize("style", [*STYLES, "unfused"])
def test_weights_and_tables_are_stored_once(folders, style):
    weights = weight_bytes(prepared("llama").loaded.model)
    tables = 2 * tiny.POSITIONS * 8 * 4
    stored = weights_of(folders[style]).stat().st_size
    assert weights + tables - 8 * KIB < stored < weights + 2 * tables + 32 * KIB


@pytest.mark.parametrize("style", STYLES)
def test_tied_weights_are_stored_once(tmp_path, style):
    write(prepared("smollm2"), tmp_path / "tied", style)
    model = prepared("smollm2").loaded.model
    embedding = model.get_input_embeddings().weight
    assert embedding is model.get_output_embeddings().weight
    stored, weights = weights_of(tmp_path / "tied").stat().st_size, weight_bytes(model)
    once = 32 * KIB
    assert embedding.numel() * 4 > once, "the embedding must be larger than the slack, or this test sees nothing"
    assert stored < weights + once


# Nothing of this machine


def places() -> list[bytes]:
    found = {sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), str(Path.home()), "site-packages", ".py"}
    return [place.encode() for place in found]


@pytest.mark.parametrize("style", [*STYLES, "unfused"])
def test_the_graph_names_no_path_of_the_exporting_machine(folders, style):
    content = (folders[style] / MODEL_NAME).read_bytes()
    assert [place for place in places() if place in content] == []


@pytest.mark.slow
def test_the_tracer_would_have_named_paths(tmp_path):
    """The twin: a traced graph, written as it comes, does."""
    ir.save(trace(tiny.loaded("llama")).model, tmp_path / MODEL_NAME, external_data="model.onnx.data")
    content = (tmp_path / MODEL_NAME).read_bytes()
    assert [place for place in places() if place in content]


def test_the_configuration_names_no_path_either(tmp_path):
    folder = tiny.save_family("llama", tmp_path / "source")
    loaded = load_model(str(folder))
    write(replace(prepared("llama"), loaded=loaded), tmp_path / "artifact", "tables")
    assert str(tmp_path) not in (tmp_path / "artifact" / "config.json").read_text()
    assert {"tokenizer.json", "tokenizer_config.json"} <= set(load_manifest(tmp_path / "artifact").files)


def test_settings_for_generation_that_contradict_each_other_do_not_stop_an_export(tmp_path):
    loaded = tiny.loaded("llama")
    loaded.model.generation_config.temperature = 0.5  # without sampling: transformers refuses to save it
    loaded.model.generation_config.do_sample = False
    with pytest.raises(ValueError, match="generation"):
        loaded.model.generation_config.save_pretrained(tmp_path)
    write(replace(prepared("llama"), loaded=loaded), tmp_path / "artifact", "tables")
    settings = json.loads((tmp_path / "artifact" / "generation_config.json").read_text())
    assert settings["temperature"] == 0.5


# Requests that cannot be met


@pytest.mark.parametrize(
    ("style", "opset", "message"),
    [("onnx", 22, "needs opset 23"), ("tables", 16, "Opset 16"), ("tables", 99, "Opset 99"), ("magic", None, "magic")],
)
def test_a_style_or_opset_that_does_not_exist_is_refused_and_nothing_is_left(tmp_path, style, opset, message):
    with pytest.raises(UsageError, match=message):
        write(prepared("llama"), tmp_path / "deep" / "artifact", style, opset=opset)
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_the_tables_are_those_of_the_model(folders):
    """The model's own cos and sin, bit for bit, in every style; the row after them answers with NaN."""
    rotary = prepared("llama").loaded.model.model.rotary_emb
    cos, sin = rotary(torch.zeros(1), torch.arange(tiny.POSITIONS)[None])
    for folder in folders.values():
        (rotation,) = load_manifest(folder).rotations
        stored = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(folder / MODEL_NAME).graph.initializer}
        for name, table in ((rotation.cos_cache, cos), (rotation.sin_cache, sin)):
            assert np.array_equal(stored[name][:-1], table[0, :, :8].numpy())
            assert np.isnan(stored[name][-1]).all()
        assert not np.array_equal(stored[rotation.sin_cache][:-1], cos[0, :, :8].numpy())
