"""What a file is not written over, and which weights stay: those that anything beside them still names."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from rope_deploy.artifact import new_file, new_graph, write_utf8
from rope_deploy.artifact.weights_files import weights_name
from rope_deploy.errors import UsageError

OLD, NEW = "0" * 64, "1" * 64


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(target: Path, sha256: str = NEW) -> str:
    """A graph that names its weights; their name is returned."""
    name = weights_name(target.name, sha256)
    with new_graph(target, force=True) as unfinished:
        write_utf8(unfinished.with_name(name), "weights")
        write_utf8(unfinished, f"a graph with {name}")
    return name


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize("make", [make_pipe, make_socket])
@pytest.mark.parametrize("writer", [new_file, new_graph])
def test_a_device_a_pipe_or_a_socket_is_not_replaced(tmp_path, monkeypatch, make, writer):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    make(Path("out.onnx"))
    before = os.lstat("out.onnx")
    with pytest.raises(UsageError, match="no regular file"), writer(tmp_path / "out.onnx", force=True):
        raise AssertionError
    assert os.path.samestat(before, os.lstat("out.onnx")) and names(tmp_path) == ["out.onnx"]


@pytest.mark.parametrize("make", [Path.mkdir, make_pipe])
def test_what_lies_at_the_name_of_the_weights_is_said_and_stays(tmp_path, make):
    name = weights_name("out.onnx", NEW)
    make(tmp_path / name)
    with pytest.raises(UsageError, match="in the way of the weights"):
        write(tmp_path / "out.onnx")
    assert names(tmp_path) == [name] and not (tmp_path / name).is_file()


@pytest.mark.parametrize("kept", ["out.onnx.bak", "copy", "other.onnx"])
def test_weights_that_a_kept_copy_of_the_graph_needs_stay(tmp_path, kept):
    target = tmp_path / "out.onnx"
    old = write(target, OLD)
    (tmp_path / kept).write_bytes(target.read_bytes())
    new = write(target, NEW)
    assert names(tmp_path) == sorted([kept, "out.onnx", old, new])


def test_weights_that_nothing_needs_any_more_go(tmp_path):
    write(tmp_path / "out.onnx", OLD)
    new = write(tmp_path / "out.onnx", NEW)
    assert names(tmp_path) == ["out.onnx", new]
