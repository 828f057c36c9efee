"""A file's word for another file is a plain name in its own folder, or nothing is opened."""

import json
import os
from pathlib import Path

import pytest

from rope_deploy.artifact import MANIFEST_NAME, MODEL_NAME, changed_files, link_fault, load_manifest, name_fault
from rope_deploy.cli.main import main
from rope_deploy.errors import ConfigError
from tests.runtimes.toy import write_toy

ELSEWHERE = [
    "/etc/hostname",
    "../secret.txt",
    "..",
    ".",
    "",
    "./a",
    "a\\b",
    "C:a",
    "a\nb",
    "a\0b",
    "sub/../../a",
]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_no_plain_name(name):
    assert name_fault(name)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", ".hidden", "a..b", "Ünïcode name", "x" * 200])
def test_what_is_one(name):
    assert name_fault(name) == ""


def test_a_folder_inside_is_allowed():
    """A tokenizer's additional chat templates lie in one."""
    assert name_fault("weights/part.bin") == ""
    assert name_fault("weights/../../part.bin") and name_fault("/weights/part.bin")


@pytest.fixture
def toy(tmp_path):
    write_toy(tmp_path / "toy")
    return tmp_path / "toy"


@pytest.mark.parametrize("name", [name for name in ELSEWHERE if "\0" not in name])
def test_nothing_is_opened_because_a_manifest_names_it(toy, monkeypatch, name):
    path = toy / MANIFEST_NAME
    document = json.loads(path.read_text())
    document["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    path.write_text(json.dumps(document))
    opened, real = [], Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args, **more: opened.append(self) or real(self, *args, **more))
    with pytest.raises(ConfigError) as caught:
        load_manifest(toy)
    assert repr(name) in caught.value.faults[0] and opened == [path]


def test_a_link_out_of_the_folder_is_not_followed(toy, tmp_path):
    secret = tmp_path / "secret"
    (toy / MODEL_NAME).rename(secret)
    (toy / MODEL_NAME).symlink_to(secret)
    with pytest.raises(ConfigError, match="not in its folder"):
        load_manifest(toy)
    assert main(["inspect", str(toy)]) == 2


def test_a_link_inside_the_folder_is(toy):
    (toy / MODEL_NAME).rename(toy / "graph")
    (toy / MODEL_NAME).symlink_to("graph")
    assert changed_files(toy, load_manifest(toy)) == []


def test_a_pipe_is_no_file(toy):
    (toy / MODEL_NAME).unlink()
    os.mkfifo(toy / MODEL_NAME)
    assert link_fault(toy, MODEL_NAME) == "it is no regular file"
    with pytest.raises(ConfigError):
        load_manifest(toy)


def cache_of(toy, repository):
    """`toy` as Hugging Face's cache holds it: links from a snapshot to blobs named by their hash."""
    snapshot, blobs = repository / "snapshots" / "abc", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(toy.iterdir())):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    return snapshot


def test_the_cache_of_the_hub_is_read(toy, tmp_path):
    snapshot = cache_of(toy, tmp_path / "models--a--b")
    assert changed_files(snapshot, load_manifest(snapshot)) == []
    assert main(["inspect", str(snapshot)]) == 0


def test_another_repository_of_the_cache_is_not(toy, tmp_path):
    snapshot = cache_of(toy, tmp_path / "models--a--b")
    other = tmp_path / "models--c--d" / "blobs"
    other.mkdir(parents=True)
    (other / "0").write_text("private")
    (snapshot / MODEL_NAME).unlink()
    (snapshot / MODEL_NAME).symlink_to("../../../models--c--d/blobs/0")
    with pytest.raises(ConfigError):
        load_manifest(snapshot)
