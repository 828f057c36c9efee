"""An artifact appears complete or not at all, and nothing that was there before is lost."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rope_deploy import api
from rope_deploy.artifact import (
    MANIFEST_NAME,
    MODEL_NAME,
    changed_files,
    load_manifest,
    new_file,
    new_folder,
    staging,
)
from rope_deploy.errors import EnvironmentMissing, UsageError
from rope_deploy.export import write
from tests.families.prepared import prepared
from tests.sweep import swept

writing = importlib.import_module("rope_deploy.export.write_artifact")
replacing = importlib.import_module("rope_deploy.artifact.replace_folder")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def failing(monkeypatch):
    """Let the saving of the graph write half of it, then fail."""

    def with_error(error: BaseException) -> None:
        def save(model, path):
            path.write_bytes(b"half a graph")
            path.with_name("weights.unnamed").write_bytes(b"half of its weights")
            raise error

        monkeypatch.setattr(writing, "save", save)

    return with_error


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path, failing):
    failing(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(EnvironmentMissing, match="No space left on device") as caught:
        write(prepared("llama"), tmp_path / "made" / "for" / "artifact", "tables")
    assert caught.value.exit_code == 3
    assert "MB are free" in caught.value.exists
    assert everything(tmp_path) == []


def test_without_the_failure_the_same_call_writes(tmp_path):
    """The twin."""
    write(prepared("llama"), tmp_path / "made" / "for" / "artifact", "tables")
    assert MANIFEST_NAME in {path.name for path in (tmp_path / "made" / "for" / "artifact").iterdir()}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), MemoryError(), OSError(errno.EIO, "broken")])
def test_any_other_end_leaves_nothing_either(tmp_path, failing, error):
    failing(error)
    with pytest.raises(type(error)):
        write(prepared("llama"), tmp_path / "artifact", "tables")
    assert everything(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk):
    with pytest.raises(EnvironmentMissing, match=r"Could not write .*artifact: ") as caught:
        write(prepared("llama"), small_disk / "artifact", "tables")
    assert caught.value.exists.startswith("0 MB are free")
    assert everything(small_disk) == []


# What was there before


@pytest.fixture
def artifact(tmp_path) -> Path:
    write(prepared("llama"), tmp_path / "artifact", "tables")
    return tmp_path / "artifact"


def test_an_existing_artifact_is_refused_without_force(artifact):
    before = contents(artifact)
    with pytest.raises(UsageError, match="exists already") as caught:
        write(prepared("llama"), artifact, "onnx")
    assert "--force" in caught.value.todo
    assert contents(artifact) == before


def test_force_replaces_it(artifact):
    write(prepared("llama"), artifact, "onnx", force=True)
    assert load_manifest(artifact).style == "onnx"
    assert changed_files(artifact, load_manifest(artifact)) == []
    assert everything(artifact.parent) == ["artifact", *(f"artifact/{name}" for name in everything(artifact))]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_force_keeps_the_old_one_until_the_new_one_is_complete(artifact, failing, error):
    before = contents(artifact)
    failing(error)
    with pytest.raises((EnvironmentMissing, KeyboardInterrupt)):
        write(prepared("llama"), artifact, "onnx", force=True)
    assert contents(artifact) == before
    assert everything(artifact.parent) == ["artifact", *(f"artifact/{name}" for name in everything(artifact))]


def test_force_gives_the_old_one_back_when_something_came_into_it_at_the_last_moment(artifact, monkeypatch):
    real, before = replacing.exchange, contents(artifact)

    def exchange(one, other):
        if other == artifact and not (artifact / "notes.txt").exists():
            (artifact / "notes.txt").write_text("mine")
        real(one, other)

    monkeypatch.setattr(replacing, "exchange", exchange)
    with pytest.raises(
        UsageError, match=rf"{artifact.name} holds what its artifact's manifest does not list"
    ) as caught:
        write(prepared("llama"), artifact, "onnx", force=True)
    assert caught.value.exists == "Not of the artifact: notes.txt."
    assert contents(artifact) == {**before, "notes.txt": b"mine"}
    assert everything(artifact.parent) == ["artifact", *(f"artifact/{name}" for name in everything(artifact))]


def test_force_does_not_replace_a_folder_that_is_no_artifact(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is not an artifact") as caught:
        write(prepared("llama"), tmp_path / "thesis", "tables", force=True)
    assert caught.value.exists == "It holds: chapter.txt."
    assert contents(tmp_path) == {"thesis/chapter.txt": b"years of work"}


def test_an_empty_folder_may_be_taken_with_force(tmp_path):
    (tmp_path / "empty").mkdir()
    write(prepared("llama"), tmp_path / "empty", "tables", force=True)
    assert (tmp_path / "empty" / MODEL_NAME).is_file()


def test_a_path_inside_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file is a file"):
        write(prepared("llama"), tmp_path / "file" / "artifact", "tables")


def test_several_styles_leave_the_rest_of_their_folder_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("rope_deploy.runs.export.prepare", lambda *_, **__: prepared("llama"))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "other.onnx").write_text("mine too")
    loaded = prepared("llama").loaded
    for force in (False, True):
        with pytest.raises(UsageError, match=r"onnx (exists already|is not an artifact)"):
            api.export(loaded, tmp_path, styles=("tables", "onnx"), force=force)
    assert everything(tmp_path) == ["notes.txt", "onnx", "onnx/other.onnx"]
    records = api.export(loaded, tmp_path, styles=("tables", "plugin"))
    assert [record.folder for record in records] == [str(tmp_path / "tables"), str(tmp_path / "plugin")]
    api.export(loaded, tmp_path, styles=("tables", "plugin"), force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "onnx", "tables", "plugin"}


def test_a_later_style_that_fails_leaves_the_earlier_one_complete(tmp_path, monkeypatch):
    real = writing.save
    monkeypatch.setattr("rope_deploy.runs.export.prepare", lambda *_, **__: prepared("llama"))

    def save(model, path):
        if model.graph.opset_imports[""] == 23:
            raise OSError(errno.ENOSPC, "full")
        return real(model, path)

    monkeypatch.setattr(writing, "save", save)
    with pytest.raises(EnvironmentMissing):
        api.export(prepared("llama").loaded, tmp_path / "out", styles=("tables", "onnx"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tables"]
    assert changed_files(tmp_path / "out" / "tables", load_manifest(tmp_path / "out" / "tables")) == []


@pytest.mark.parametrize("styles", [("tables",), ("tables", "onnx")])
def test_a_folder_that_another_run_writes_is_refused_before_the_model_is_loaded(tmp_path, styles, monkeypatch):
    monkeypatch.setattr("rope_deploy.runs.export.load_model", lambda *_, **__: pytest.fail("loaded"))
    busy = tmp_path / "out" if len(styles) == 1 else tmp_path / "out" / "onnx"
    began, ended = threading.Event(), threading.Event()

    def other() -> None:
        with staging(busy):
            began.set()
            ended.wait(30)

    thread = threading.Thread(target=other)
    thread.start()
    assert began.wait(30)
    try:
        with pytest.raises(UsageError, match=f"{busy.name} is being written by another run"):
            api.export("owner/model", tmp_path / "out", styles=styles, force=True)
    finally:
        ended.set()
        thread.join()
    assert [path for path in everything(tmp_path) if path != "out"] == []


# Folders and files alike


def test_a_new_file_replaces_the_old_one_only_when_it_is_whole(tmp_path):
    target = tmp_path / "made" / "report.json"
    with pytest.raises(EnvironmentMissing), new_file(target) as unfinished:
        unfinished.write_text("{")
        raise OSError(errno.ENOSPC, "full")
    assert everything(tmp_path) == []
    with new_file(target) as unfinished:
        unfinished.write_text("{}")
    with pytest.raises(KeyboardInterrupt), new_file(target) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"made/report.json": b"{}"}


def test_folders_that_held_something_already_stay(tmp_path):
    (tmp_path / "kept").mkdir()
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "kept" / "new" / "artifact"):
        raise KeyboardInterrupt
    assert everything(tmp_path) == ["kept"]


# Signals, in a process of its own

SLOW = """
import importlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
writing = importlib.import_module("rope_deploy.export.write_artifact")
real = writing.save
def slow(*arguments):
    real(*arguments)
    print("saved", flush=True)
    time.sleep(60)
writing.save = slow
from rope_deploy.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), swept([(signal.SIGTERM, 143), (signal.SIGINT, 130)], [signal.SIGTERM]))
def test_a_signal_in_the_middle_of_writing_leaves_nothing(tmp_path, sent, code):
    command = [sys.executable, "-c", SLOW, "export", "tests.models.plain:plain_with_config", "-o", "out/artifact"]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "saved\n", process.stderr and process.stderr.read()
        (staging,) = (tmp_path / "out").iterdir()
        assert MODEL_NAME in {path.name for path in (staging / "new").iterdir()}
        process.send_signal(sent)
        _, message = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Nothing was left half-written" in message
    assert "Traceback" not in message
    assert everything(tmp_path) == []
