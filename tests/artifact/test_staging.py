"""One run writes an output at a time, and what dead runs left is cleared up by the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.killing import changes, kill_before
from rope_deploy.artifact import MANIFEST_NAME, new_file, new_folder, staging, write_utf8
from rope_deploy.artifact.subject import artifact_folders
from rope_deploy.errors import UsageError
from tests.runtimes.toy import write_toy

HOLDER = """
import sys, time
from pathlib import Path
from rope_deploy.artifact import staging
with staging(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_run(tmp_path):
    """Another process that is writing `out`; it has just begun."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("force", [False, True])
def test_two_runs_do_not_write_one_output(tmp_path, other_run, force):
    with (
        pytest.raises(UsageError, match=r"out is being written by another run") as caught,
        new_folder(tmp_path / "out", force=force),
    ):
        raise AssertionError
    assert caught.value.exit_code == 2 and "Wait" in caught.value.todo
    assert names(tmp_path) == [".out.rope-deploy"]


def test_another_output_beside_it_is_free(tmp_path, other_run):
    with new_file(tmp_path / "else") as unfinished:
        write_utf8(unfinished, "content")
    assert names(tmp_path) == [".out.rope-deploy", "else"], "the other run's is not taken for a leftover"


def test_the_lock_of_a_killed_run_is_free_and_what_it_left_is_gone(tmp_path, other_run):
    (tmp_path / ".out.rope-deploy" / "new").write_text("half")
    other_run.send_signal(signal.SIGKILL)
    other_run.wait()
    assert names(tmp_path) == [".out.rope-deploy"]
    with new_file(tmp_path / "else") as unfinished:
        write_utf8(unfinished, "content")
    assert names(tmp_path) == ["else"]


def test_one_run_may_hold_its_output_for_long_and_write_it_inside(tmp_path):
    with staging(tmp_path / "out"):
        with new_file(tmp_path / "out") as unfinished:
            write_utf8(unfinished, "first")
        with new_file(tmp_path / "out") as unfinished:
            write_utf8(unfinished, "second")
    assert names(tmp_path) == ["out"] and (tmp_path / "out").read_text() == "second"


def test_one_output_has_one_lock_by_whatever_path_it_is_named(tmp_path, other_run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (Path("out"), Path("link/out"), Path("../") / tmp_path.name / "out"):
        with pytest.raises(UsageError, match="another run"), new_file(path):
            raise AssertionError


def test_a_file_where_the_staging_folder_would_be_is_said(tmp_path):
    (tmp_path / ".out.rope-deploy").write_text("mine")
    with pytest.raises(UsageError, match="in the way"), new_file(tmp_path / "out"):
        raise AssertionError
    assert (tmp_path / ".out.rope-deploy").read_text() == "mine"


def test_what_a_run_left_behind_a_link_is_not_followed(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("years")
    place = tmp_path / ".dead.rope-deploy"
    place.mkdir()
    (place / "new").symlink_to(tmp_path / "thesis")
    (place / "weights").write_text("thesis\n../thesis/chapter\n")
    with new_file(tmp_path / "out") as unfinished:
        write_utf8(unfinished, "content")
    assert names(tmp_path) == ["out", "thesis"] and (tmp_path / "thesis" / "chapter").read_text() == "years"


# Leftovers are no artifacts


def left_by_earlier_versions(folder: Path) -> None:
    """As a killed export of an earlier version left them."""
    for name in (".onnx.deadbeef.tmp", ".tables.deadbeef.old"):
        write_toy(folder / name, name.split(".")[1])
        manifest = json.loads((folder / name / MANIFEST_NAME).read_text())
        manifest["files"]["config.json"] = manifest["files"]["model.onnx"]
        (folder / name / MANIFEST_NAME).write_text(json.dumps(manifest))
    (folder / ".new.deadbeef.tmp").mkdir()
    (folder / ".new.deadbeef.tmp" / "model.onnx.data").write_text("half")


def test_hidden_folders_are_no_artifacts(tmp_path):
    write_toy(tmp_path / "tables", "tables")
    left_by_earlier_versions(tmp_path)
    assert artifact_folders(tmp_path) == (tmp_path / "tables",)


def test_what_earlier_versions_left_is_removed_by_the_next_run(tmp_path):
    write_toy(tmp_path / "tables", "tables")
    left_by_earlier_versions(tmp_path)
    write(tmp_path / "onnx")
    assert names(tmp_path) == ["onnx", "tables"]


def write(target: Path) -> None:
    with new_folder(target) as unfinished:
        write_utf8(unfinished / "content", "new")


def test_the_only_copy_of_an_artifact_is_not_removed(tmp_path):
    left_by_earlier_versions(tmp_path)
    write(tmp_path / "onnx")
    assert names(tmp_path) == [".tables.deadbeef.old", "onnx"], "there is no other tables"


@pytest.mark.parametrize("name", [".tables.deadbeef.old", ".tables.deadbeef.tmp"])
def test_what_somebody_put_into_a_leftover_keeps_it(tmp_path, name):
    write_toy(tmp_path / "tables", "tables")
    write_toy(tmp_path / name, "tables")
    (tmp_path / name / "thesis.tex").write_text("years")
    (tmp_path / ".notes.deadbeef.tmp").write_text("another program's")
    write(tmp_path / "onnx")
    assert (tmp_path / name / "thesis.tex").exists() and (tmp_path / ".notes.deadbeef.tmp").exists()


def test_what_somebody_dated_is_no_leftover(tmp_path):
    write_toy(tmp_path / "tables", "tables")
    write_toy(tmp_path / ".tables.20261130.old", "tables")
    (tmp_path / ".onnx.20261130.tmp").write_text("kept by hand")
    write(tmp_path / "onnx")
    assert names(tmp_path) == [".onnx.20261130.tmp", ".tables.20261130.old", "onnx", "tables"]


def test_a_leftover_goes_even_if_the_next_run_writes_something_else(tmp_path):
    steps = changes(lambda: write(tmp_path / "first" / "out"))
    commit = next(number for number, step in enumerate(steps) if step.startswith("os.rename"))
    assert kill_before(commit, lambda: write(tmp_path / "out"))
    assert names(tmp_path) == [".out.rope-deploy", "first"]
    write(tmp_path / "else")
    assert names(tmp_path) == ["else", "first"]
