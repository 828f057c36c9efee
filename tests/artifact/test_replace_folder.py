"""--force replaces what a manifest lists and nothing else."""

from __future__ import annotations

import errno
import importlib
import json
from pathlib import Path

import pytest

from rope_deploy.artifact import (
    MANIFEST_NAME,
    MODEL_NAME,
    held_folder,
    load_manifest,
    new_file,
    new_folder,
    new_graph,
    write_utf8,
)
from rope_deploy.errors import EnvironmentMissing, UsageError
from tests.runtimes.toy import write_toy

replacing = importlib.import_module("rope_deploy.artifact.replace_folder")
staging_module = importlib.import_module("rope_deploy.artifact.staging")


def artifact(folder: Path, style: str) -> None:
    write_toy(folder, style)
    (folder / "config.json").unlink()


def replace_it(target: Path) -> None:
    with new_folder(target, force=True) as unfinished:
        artifact(unfinished, "onnx")


def contents(folder: Path) -> dict[str, bytes | str]:
    return {
        path.relative_to(folder).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def out(tmp_path) -> Path:
    artifact(tmp_path / "out", "tables")
    return tmp_path / "out"


def test_an_artifact_is_replaced_whole(out):
    old = contents(out)
    replace_it(out)
    assert load_manifest(out).style == "onnx"
    assert contents(out).keys() == old.keys() and contents(out) != old
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "null", '{"schema_version": 1}', "\x00", '{"schema_version": 99, "files": {}}']
)
def test_a_file_of_the_manifest_s_name_makes_no_artifact(tmp_path, content):
    home = tmp_path / "home"
    (home / "docs").mkdir(parents=True)
    (home / "docs" / "thesis.tex").write_text("years")
    (home / MANIFEST_NAME).write_text(content)
    before = contents(home)
    with pytest.raises(UsageError, match="is not an artifact, so it is not replaced, not even with --force") as caught:
        replace_it(home)
    assert "docs" in caught.value.exists
    assert contents(home) == before


def beside(out: Path) -> str:
    (out / "notes.md").write_text("mine")
    return "notes.md"


def below(out: Path) -> str:
    (out / "venv" / "bin").mkdir(parents=True)
    (out / "venv" / "bin" / "python").write_text("mine")
    return "venv/"


def empty(out: Path) -> str:
    (out / "later").mkdir()
    return "later/"


def link(out: Path) -> str:
    (out / "data").symlink_to("/usr")
    return "data"


def hidden(out: Path) -> str:
    (out / ".git").mkdir()
    return ".git/"


def engine(out: Path) -> str:
    (out / "model.engine").write_bytes(b"hours of a GPU")
    return "model.engine"


def beside_listed(out: Path) -> str:
    """A folder in which one file is listed and another is not."""
    manifest = json.loads((out / MANIFEST_NAME).read_text())
    (out / "templates").mkdir()
    for name in ("ours", "theirs"):
        (out / "templates" / name).write_text(name)
    manifest["files"]["templates/ours"] = {"bytes": 4, "sha256": "0"}
    (out / MANIFEST_NAME).write_text(json.dumps(manifest))
    return "templates/theirs"


@pytest.mark.parametrize("put_in", [beside, below, empty, link, hidden, engine, beside_listed])
def test_what_the_manifest_does_not_list_keeps_the_folder(out, put_in):
    name = put_in(out)
    before = contents(out)
    with pytest.raises(UsageError, match="does not list") as caught:
        replace_it(out)
    assert caught.value.exists == f"Not of the artifact: {name}."
    assert contents(out) == before
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_without_force_nothing_is_looked_at(out):
    with pytest.raises(UsageError, match="exists already"), new_folder(out):
        raise AssertionError


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageError, match="is no folder"):
        replace_it(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path, out):
    (tmp_path / "current").symlink_to(out)
    before = contents(out)
    replace_it(tmp_path / "current")
    assert contents(out) == before
    assert not (tmp_path / "current").is_symlink() and load_manifest(tmp_path / "current").style == "onnx"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "out"]


def test_hard_linked_files_keep_their_other_names(tmp_path, out):
    blob = tmp_path / "blob"
    blob.hardlink_to(out / MODEL_NAME)
    before = blob.read_bytes()
    replace_it(out)
    assert blob.read_bytes() == before != (out / MODEL_NAME).read_bytes()


def test_where_folders_cannot_change_places_it_is_said_before_any_work(out, monkeypatch):
    def exchange(one, other):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(replacing, "exchange", exchange)
    before = contents(out)
    with (
        pytest.raises(EnvironmentMissing, match="cannot be replaced in one step") as caught,
        held_folder(out, force=True),
    ):
        raise AssertionError
    assert "Remove the old artifact yourself" in caught.value.todo
    assert contents(out) == before
    with new_folder(out.with_name("fresh")) as unfinished:
        artifact(unfinished, "onnx")
    assert load_manifest(out.with_name("fresh")).style == "onnx", "a free place needs no exchange"


def test_an_artifact_does_not_lie_in_another(out):
    with pytest.raises(UsageError, match=f"lies inside the artifact {out}"), new_folder(out / "a" / "b", force=True):
        pass
    assert not (out / "a").exists()


@pytest.mark.parametrize("name", [MODEL_NAME, MANIFEST_NAME])
def test_a_file_of_an_artifact_is_not_replaced_alone(out, name):
    before = contents(out)
    for make in (new_file, new_graph):
        with pytest.raises(UsageError, match="is part of the artifact"), make(out / name, force=True):
            pass
    assert contents(out) == before
    (out / "note.txt").write_text("not listed")
    with new_file(out / "note.txt") as unfinished:
        write_utf8(unfinished, "another")
    assert (out / "note.txt").read_text() == "another"


def test_a_folder_that_refuses_is_not_said_to_be_full(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(staging_module.os, "open", refused)
    with pytest.raises(EnvironmentMissing) as caught, new_file(tmp_path / "a.txt"):
        pass
    assert "Read-only" in caught.value.asked
    assert "MB" not in caught.value.exists and "space" not in caught.value.todo


@pytest.mark.parametrize("target", ["absent/../a", "./a", "a/"])
def test_a_place_has_one_name(tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    with new_folder(Path(target)) as unfinished:
        artifact(unfinished, "onnx")
    assert load_manifest(tmp_path / "a").style == "onnx"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("target", [".", "", ".."])
def test_a_folder_is_no_name_of_a_file(tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is a folder"), new_graph(Path(target), force=True):
        pass


def test_links_in_a_circle_are_no_place(tmp_path):
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(UsageError, match="circle"), new_file(tmp_path / "round" / "x.json"):
        pass


def test_a_graph_does_not_replace_weights(out):
    (weights,) = out.glob("*.data")
    before = contents(out)
    (out / MANIFEST_NAME).unlink()  # it belongs to no artifact now
    with pytest.raises(UsageError, match=f"holds weights of {MODEL_NAME}"), new_graph(weights, force=True):
        pass
    assert contents(out) == {name: held for name, held in before.items() if name != MANIFEST_NAME}
    with pytest.raises(UsageError, match=f"holds weights of {MODEL_NAME}"), new_file(weights, force=True):
        pass
    assert contents(out) == {name: held for name, held in before.items() if name != MANIFEST_NAME}
