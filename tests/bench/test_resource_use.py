"""A process of its own says what a contestant needs, whatever becomes of that process."""

import os
import shutil
import sys

import numpy as np
import pytest

from rope_deploy.bench import ContestantJob, resource_use_in_child
from tests import crashes
from tests.runtimes.toy import write_toy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("alone")
    for style in ("onnx", "tables", "contrib"):
        write_toy(place / style, style)
    return place


def job(folder, style="onnx", **changes):
    return ContestantJob("ort", str(folder / style), (4,), 2, threads=1, **changes)


@pytest.mark.slow
def test_the_memory_of_this_process_is_not_counted(folder):
    """ru_maxrss would: Linux hands it on through fork and exec."""
    ballast = np.ones(1 << 26)  # 512 MiB
    found = resource_use_in_child(job(folder))
    assert found.before_bytes < found.resident_bytes <= found.peak_bytes < ballast.nbytes
    assert found.arena_bytes > 0 and found.note == ""


@pytest.mark.slow
def test_the_rotation_has_a_share_of_each_workload(folder):
    shares = {style: resource_use_in_child(job(folder, style)).shares for style in ("onnx", "tables")}
    assert all(set(found) == {"prefill 4", "decode @4"} for found in shares.values())
    assert all(0 < share < 1 for found in shares.values() for share in found.values())
    assert shares["tables"]["prefill 4"] > shares["onnx"]["prefill 4"]  # a dozen nodes against one


def test_a_fused_rotation_has_none_and_says_so(folder):
    found = resource_use_in_child(job(folder, "contrib"))
    assert set(found.shares.values()) == {None} and "cannot be told" in found.note


def test_what_is_no_artifact_is_a_remark_not_an_error(tmp_path):
    found = resource_use_in_child(job(tmp_path))
    assert (
        found.peak_bytes is None
        and found.note == f"Not measured: {tmp_path / 'onnx'} is not an artifact: it has no rope_deploy.json."
    )


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("aborts", "SIGABRT"),
        ("leaves", "exit code 7 (last words)"),
        ("raises", "Not measured: ValueError: a fault of ours"),
        ("sleeps", "more than 1 second"),
    ],
)
def test_a_process_that_dies_or_hangs_takes_only_its_figures_along(tmp_path, monkeypatch, function, says):
    """The work is imported in the child alone."""
    shutil.copy(crashes.__file__, tmp_path / "dying_worker.py")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr("rope_deploy.bench.resource_use.MEASURE", f"dying_worker:{function}")
    found = resource_use_in_child(job(tmp_path), patience=1 if function == "sleeps" else 60)
    assert says in found.note and found.peak_bytes is None
    assert "dying_worker" not in sys.modules
