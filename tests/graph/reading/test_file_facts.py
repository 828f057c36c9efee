"""What a file says of itself is read off its graph, and a manifest that was written with it agrees."""

from dataclasses import replace

import pytest

from rope_deploy.artifact import MODEL_NAME, load_manifest
from rope_deploy.errors import UsageError
from rope_deploy.export import prepare, write
from rope_deploy.graph.reading.file_facts import read_facts
from rope_deploy.options import ExportOptions
from rope_deploy.runs.manifest_claims import against_graph, against_model
from tests import tiny, towers
from tests.sweep import swept

CASES = {
    "half": ("smollm2", {"dtype": "float16"}, {}),
    "brain": ("smollm2", {"dtype": "bfloat16"}, {}),
    "partial-two-tables": ("phi3", {}, {}),
    "two-rules-window": ("gemma3", {}, {}),
    "interleaved-no-interface": ("gptj", {}, {}),
    "layers-that-do-not-rotate": ("cohere2", {}, {}),
    "encoder": ("modernbert", {}, {}),
    "no-cache": ("llama", {}, {"cache": False}),
    "shorter": ("llama", {}, {"max_position": 20}),
    "fp64": ("llama", {}, {"angles": "float64"}),
    "computed": ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}}, {}),
}


def agrees(loaded, prepared, folder, styles):
    for style in styles:
        write(prepared, folder / style, style)
        manifest, facts = load_manifest(folder / style), read_facts(folder / style / MODEL_NAME)
        assert [*against_graph(manifest, facts), *against_model(manifest, loaded)] == [], style


@pytest.mark.parametrize("name", swept(CASES, ["half"]))
def test_what_an_export_writes_is_true(tmp_path, name):
    family, overrides, settings = CASES[name]
    loaded = tiny.loaded(family, **overrides)
    agrees(loaded, prepare(loaded, ExportOptions(**settings)), tmp_path, ("tables", "onnx", "contrib", "plugin"))


@pytest.mark.parametrize("name", swept(["qwen2_5_vl", "dinov3", "lasr"], ["qwen2_5_vl"]))
def test_that_of_a_tower_too(tmp_path, name):
    agrees(towers.loaded(name), towers.prepared(name), tmp_path, ("tables",))


def test_a_limit_of_any_style_is_explained_by_operators_that_have_it_in_every_layer(tmp_path):
    write(prepare(tiny.loaded("llama"), ExportOptions()), tmp_path / "onnx", "onnx")
    manifest, facts = load_manifest(tmp_path / "onnx"), read_facts(tmp_path / "onnx" / MODEL_NAME)
    limited = replace(manifest, limits=replace(manifest.limits, left_padding=False))
    rotated = frozenset(site.output for site in manifest.sites)
    assert [*against_graph(limited, replace(facts, limited={"left_padding": rotated}))] == []
    for found in ({}, {"left_padding": rotated - {manifest.sites[-1].output}}, {"padded_past": rotated}):
        (text,) = against_graph(limited, replace(facts, limited=found))
        assert text == "limits.left_padding: false; no operator of the graph has that limit."


def test_a_file_that_is_none_is_called_that(tmp_path):
    with pytest.raises(UsageError, match="There is no file"):
        read_facts(tmp_path / "none.onnx")
    for content in (b"", b"text", bytes(64)):
        (tmp_path / "x.onnx").write_bytes(content)
        with pytest.raises(UsageError, match=r"is not an ONNX file|is not a sound ONNX file: it holds no operators"):
            read_facts(tmp_path / "x.onnx")
