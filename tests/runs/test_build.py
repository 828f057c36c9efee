"""Styles chosen for a build, with the real parser of TensorRT-RTX where it has a say."""

import json
import shutil
from dataclasses import replace

import onnx
import pytest

from rope_deploy.artifact import MANIFEST_NAME, MODEL_NAME, hash_file, load_manifest
from rope_deploy.cli.main import main
from rope_deploy.errors import EnvironmentMissing, GraphRefused, UsageError, VendorError
from rope_deploy.options import BuildOptions
from rope_deploy.results.records import EngineRecord
from rope_deploy.runs import build
from rope_deploy.runs.build import build_styled
from rope_deploy.trt import load_engine_manifest
from tests import tiny
from tests.runtimes.toy import write_toy
from tests.trt.graphs import PLAIN, needs_rtx, write_onnx

RTX = {"flavor": "rtx", "capabilities": ("8.0",)}


def built(source, target, *, progress=None, **options):
    return build_styled(source, target, BuildOptions(**{"style": "auto", **RTX, **options}), progress=progress)


@pytest.fixture
def styles(tmp_path):
    """A folder with one artifact a style, as `export` writes several."""
    for style in ("tables", "onnx", "contrib"):
        write_toy(tmp_path / "all" / style, style)
    return tmp_path / "all"


def in_place_of_relu(folder, operator):
    """Let the graph of `folder` pass its logits through an operator, as if the model had it."""
    model = onnx.load(folder / MODEL_NAME, load_external_data=False)
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "before"
    model.graph.node.append(onnx.helper.make_node(operator, ["before"], ["logits"], name="the_culprit"))
    onnx.save(model, folder / MODEL_NAME)
    manifest = load_manifest(folder)
    files = {**manifest.files, MODEL_NAME: hash_file(folder / MODEL_NAME)}
    (folder / MANIFEST_NAME).write_text(replace(manifest, files=files).to_json())


@needs_rtx
def test_auto_takes_the_best_style_that_is_there(styles, tmp_path):
    record = built(styles, tmp_path / "e.engine")
    assert record.style == "onnx"
    assert record.message.startswith("style onnx: RotaryEmbedding becomes")
    assert load_engine_manifest(tmp_path / "e.engine").chosen in record.message
    shutil.rmtree(styles / "onnx")
    assert built(styles, tmp_path / "e.engine", force=True).style == "tables"


@needs_rtx
@pytest.mark.slow
def test_a_single_artifact_leaves_no_choice(styles, tmp_path):
    for given in (styles / "tables", styles / "tables" / MODEL_NAME):
        assert built(given, tmp_path / "e.engine", force=True).style == "tables"


@needs_rtx
def test_after_a_style_whose_rotation_the_parser_refuses_the_next_is_built_and_both_are_recorded(styles, tmp_path):
    shutil.rmtree(styles / "onnx")
    manifest = write_toy(styles / "onnx", "contrib")  # GroupQueryAttention, which TensorRT-RTX does not know
    (styles / "onnx" / MANIFEST_NAME).write_text(replace(manifest, style="onnx").to_json())
    shutil.rmtree(styles / "contrib")
    record = built(styles, tmp_path / "e.engine")
    assert record.style == "tables"
    chosen = load_engine_manifest(tmp_path / "e.engine").chosen
    assert "onnx was refused: GroupQueryAttention" in chosen


@needs_rtx
@pytest.mark.slow
def test_an_operator_of_the_model_that_no_style_changes_is_named_as_not_the_rotation_s(styles, tmp_path):
    for style in ("tables", "onnx"):
        in_place_of_relu(styles / style, "Bernoulli")
    with pytest.raises(GraphRefused) as caught:
        built(styles, tmp_path / "e.engine")
    assert caught.value.of_rotation is False
    assert [node.operator for node in caught.value.nodes] == ["Bernoulli"]
    reported = str(caught.value)
    assert "onnx: Bernoulli 'the_culprit'" in reported
    assert "tables: Bernoulli 'the_culprit'" in reported
    assert "contrib: GroupQueryAttention" in reported, "refused for its rotation, which is not what is in the way"
    assert "Not part of a rotation: Bernoulli 'the_culprit'." in reported
    assert not (tmp_path / "e.engine").exists()


@needs_rtx
def test_the_only_style_s_own_refusal_is_the_message(styles, tmp_path):
    with pytest.raises(GraphRefused, match="does not accept this graph") as caught:
        built(styles / "contrib", tmp_path / "e.engine")
    assert caught.value.of_rotation is True
    assert {node.operator for node in caught.value.nodes} == {"GroupQueryAttention"}


@needs_rtx
@pytest.mark.slow
def test_a_named_style_is_taken_whatever_is_better(styles, tmp_path):
    assert built(styles, tmp_path / "e.engine", style="tables").style == "tables"


def test_a_style_that_is_not_there_is_refused_with_those_that_are(styles, tmp_path):
    with pytest.raises(UsageError, match="no artifact of style plugin") as caught:
        built(styles, tmp_path / "e.engine", style="plugin")
    assert caught.value.exists == "It has: contrib, onnx, tables."
    with pytest.raises(UsageError, match="Unknown style 'fast'"):
        built(styles, tmp_path / "e.engine", style="fast")


def test_two_artifacts_of_one_style_are_no_choice(styles, tmp_path):
    shutil.copytree(styles / "onnx", styles / "other")
    with pytest.raises(UsageError, match="two artifacts of style onnx: onnx and other"):
        built(styles, tmp_path / "e.engine")


@needs_rtx
def test_a_bare_file_is_built_as_it_is_and_has_no_style_to_ask_for(tmp_path):
    bare = write_onnx(tmp_path / "g.onnx", PLAIN)
    profiles = ("batch=1:1:2", "width=1:4:9")
    assert built(bare, tmp_path / "e.engine", profiles=profiles).style == ""
    with pytest.raises(UsageError, match="has no style"):
        built(bare, tmp_path / "e.engine", style="onnx", profiles=profiles)


@needs_rtx
@pytest.mark.slow
def test_a_model_is_exported_beside_its_engine_in_the_style_that_is_built(source, tmp_path):
    reported = []
    record = built(source, tmp_path / "e.engine", progress=reported.append)
    artifact = tmp_path / "e.engine.artifact"
    assert (record.style, load_manifest(artifact).style) == ("onnx", "onnx")
    assert json.loads((tmp_path / "e.engine.json").read_text())["source"] == str(artifact / MODEL_NAME)
    assert "Tracing the model" in [progress.phase for progress in reported]
    with pytest.raises(UsageError, match="exists already"):
        built(source, tmp_path / "e.engine")


def refusing(*refused):
    """Stands in for the vendor: refuses these styles."""

    def build(folder, target, options, *, chosen, **more):
        style = load_manifest(folder).style
        if style in refused:
            raise VendorError(f"{style} is refused.")
        return style, chosen

    return build


@pytest.mark.slow
def test_a_model_is_traced_once_and_leaves_the_style_that_is_built(source, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "build_engine", refusing("onnx"))
    monkeypatch.setattr(build, "require_flavor", lambda flavor: "1")
    reported = []
    style, why = built(source, tmp_path / "e.engine", progress=reported.append)
    assert (style, load_manifest(tmp_path / "e.engine.artifact").style) == ("tables", "tables")
    assert why.endswith("onnx was refused: onnx is refused.")
    assert [progress.phase for progress in reported].count("Tracing the model") == 1


@pytest.mark.slow
def test_a_model_no_style_of_which_can_be_built_leaves_nothing(source, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "build_engine", refusing("onnx", "tables", "contrib", "plugin"))
    monkeypatch.setattr(build, "require_flavor", lambda flavor: "1")
    with pytest.raises(GraphRefused, match="No style of") as caught:
        built(source, tmp_path / "e.engine")
    assert caught.value.of_rotation is None
    assert all(f"{style}: {style} is refused." in str(caught.value) for style in ("onnx", "tables", "contrib"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_artifact_that_was_there_stays_if_no_engine_can_be_built(source, tmp_path, monkeypatch):
    write_toy(tmp_path / "e.engine.artifact", "tables")
    (tmp_path / "e.engine.artifact" / "config.json").unlink()
    before = {path.name: path.read_bytes() for path in (tmp_path / "e.engine.artifact").iterdir()}
    monkeypatch.setattr(build, "build_engine", refusing("onnx", "tables", "contrib", "plugin"))
    monkeypatch.setattr(build, "require_flavor", lambda flavor: "1")
    with pytest.raises(GraphRefused):
        built(source, tmp_path / "e.engine", force=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "e.engine.artifact").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["e.engine.artifact"]


@pytest.mark.slow
def test_a_mistake_of_a_model_stops_a_build_unless_it_is_accepted_and_is_noted_with_the_engine(tmp_path, monkeypatch):
    model = tiny.save_family("smollm2", tmp_path / "model", num_hidden_layers=1)
    stated = json.loads((model / "config.json").read_text())
    stated["rope_parameters"]["partial_rotary_factor"] = 0.5
    (model / "config.json").write_text(json.dumps(stated))
    made = EngineRecord("e", "onnx", "rtx", (), 0, 0.0, "passed", "profiles: prefill")
    monkeypatch.setattr(build, "build_engine", lambda *_, **__: made)
    monkeypatch.setattr(build, "require_flavor", lambda flavor: "1")
    arguments = ["build", str(model), "-o", str(tmp_path / "e.engine"), "--flavor", "rtx", "--style", "auto"]
    assert main(arguments) == 2 and not (tmp_path / "e.engine.artifact").exists()
    assert main([*arguments, "--accept", "RD301"]) == 2
    assert main([*arguments, "--accept", "RD103"]) == 0
    record = built(model, tmp_path / "f.engine", accept=("RD103",))
    assert "profiles: prefill; " in record.message and "RD103" in record.message


@pytest.mark.parametrize("style", [None, "auto", "onnx"])
def test_there_is_nothing_to_accept_in_what_is_exported_already(styles, tmp_path, style):
    for subject in (styles / "onnx", styles / "onnx" / MODEL_NAME):
        with pytest.raises(UsageError, match="There is nothing to accept"):
            built(subject, tmp_path / "e.engine", style=style, accept=("RD301",))
    with pytest.raises(UsageError, match="There is no code RD999"):
        built(styles / "onnx", tmp_path / "e.engine", style=style, accept=("RD999",))


def test_a_missing_flavour_is_reported_before_the_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("rope_deploy.trt.flavors.installed_version", lambda flavor: None)
    with pytest.raises(EnvironmentMissing, match="tensorrt_rtx"):
        built(tmp_path / "absent", tmp_path / "e.engine")
