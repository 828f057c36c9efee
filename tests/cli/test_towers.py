"""A tower from the command line: exported, inspected, checked."""

import json

import numpy as np
import pytest

from rope_deploy.artifact import load_manifest
from rope_deploy.cli.main import main
from tests import tiny, towers
from tests.sweep import swept


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return towers.save("qwen2_5_vl", tmp_path_factory.mktemp("tower") / "model")


@pytest.fixture(scope="module")
def artifact(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("tower")
    np.savez(place / "image.npz", hidden_states=np.ones((32, 384), np.float32), grid_thw=np.array([[1, 4, 8]]))
    arguments = ["export", str(folder), "-o", str(place / "out"), "--example", str(place / "image.npz")]
    assert main(arguments) == 0
    return place / "out"


def test_an_example_decides_the_sizes(artifact):
    manifest = load_manifest(artifact)
    assert manifest.inputs[0].shape == (32, 384)
    assert manifest.fixed["grid_thw"].values == [[1, 4, 8]]
    assert manifest.max_position == 32


def test_an_artifact_of_a_tower_passes_its_check(artifact, capsys):
    assert main(["check", str(artifact), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    cases = {record["case"]: record["verdict"] for record in report["checks"]}
    assert cases["example"] == cases["alike"] == cases["coverage"] == cases["tables"] == "passed"


def test_inspect_says_what_a_tower_was_made_for(artifact, capsys):
    assert main(["inspect", str(artifact)]) == 0
    out = capsys.readouterr().out
    assert "tower" in out
    assert "hidden_states [32, 384], grid_thw [[1, 4, 8]]" in out


def test_inspect_of_the_model_says_that_no_rule_is_stated(folder, capsys):
    assert main(["inspect", str(folder)]) == 0
    assert "states no rule for rows and columns" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", swept(["dinov3", "lasr"], ["dinov3"]))
def test_without_an_example_one_is_made(name, tmp_path, capsys):
    folder = towers.save(name, tmp_path / "model")
    assert main(["export", str(folder), "-o", str(tmp_path / "out"), "--style", "all"]) == 0
    assert main(["check", str(tmp_path / "out"), "--case", "example", "--case", "batch"]) == 0
    assert "4 sites, 1 table" in capsys.readouterr().out


def test_a_text_model_needs_no_example(tmp_path, capsys):
    folder = tiny.save_family("llama", tmp_path / "model")
    np.savez(tmp_path / "image.npz", input_ids=np.ones((1, 2), np.int64))
    arguments = ["export", str(folder), "-o", str(tmp_path / "out"), "--example", str(tmp_path / "image.npz")]
    assert main(arguments) == 2
    assert "reads text" in capsys.readouterr().err


def test_a_tower_has_as_many_rows_as_tokens(folder, tmp_path, capsys):
    assert main(["export", str(folder), "-o", str(tmp_path / "out"), "--max-position", "64"]) == 2
    assert "a row for each patch or frame" in capsys.readouterr().err


def test_an_example_that_the_model_cannot_take_is_refused(folder, tmp_path, capsys):
    np.savez(tmp_path / "image.npz", hidden_states=np.ones((32, 7), np.float32), grid_thw=np.array([[1, 4, 8]]))
    arguments = ["export", str(folder), "-o", str(tmp_path / "out"), "--example", str(tmp_path / "image.npz")]
    assert main(arguments) == 2
    assert "PyTorch cannot export" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
