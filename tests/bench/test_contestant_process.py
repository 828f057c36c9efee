"""A process of its own says what a contestant needs, whatever becomes of that process."""

import sys

import numpy as np
import pytest

from rope_deploy.bench import Job, run_alone
from tests.runtimes.toy import write_toy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("alone")
    for style in ("onnx", "tables", "contrib"):
        write_toy(place / style, style)
    return place


def job(folder, style="onnx", **changes):
    return Job("ort", str(folder / style), (4,), 2, threads=1, **changes)


def test_a_job_survives_being_written():
    given = Job("torch", "f", (1, 2), 3, source="s", trust_remote_code=True)
    assert Job.from_json(given.to_json()) == given


def test_the_memory_of_this_process_is_not_counted(folder):
    """ru_maxrss would: Linux hands it on through fork and exec."""
    ballast = np.ones(1 << 26)  # 512 MiB
    found = run_alone(job(folder))
    assert found.before_bytes < found.resident_bytes <= found.peak_bytes < ballast.nbytes
    assert found.arena_bytes > 0 and found.note == ""


def test_the_rotation_has_a_share_of_each_workload(folder):
    shares = {style: run_alone(job(folder, style)).shares for style in ("onnx", "tables")}
    assert all(set(found) == {"prefill 4", "decode @4"} for found in shares.values())
    assert all(0 < share < 1 for found in shares.values() for share in found.values())
    assert shares["tables"]["prefill 4"] > shares["onnx"]["prefill 4"]  # a dozen nodes against one


def test_a_fused_rotation_has_none_and_says_so(folder):
    found = run_alone(job(folder, "contrib"))
    assert set(found.shares.values()) == {None} and "cannot be told" in found.note


def test_what_is_no_artifact_is_a_remark_not_an_error(tmp_path):
    found = run_alone(job(tmp_path))
    assert found.peak_bytes is None and "exit code 2" in found.note and "not an artifact" in found.note


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os.abort()", "SIGABRT"),
        ("import sys; print('last words', file=sys.stderr); sys.exit(7)", "exit code 7 (last words)"),
        ("import time; time.sleep(60)", "more than 1 second"),
    ],
)
def test_a_process_that_dies_or_hangs_takes_only_its_figures_along(tmp_path, monkeypatch, code, says):
    (tmp_path / "dying_worker.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = run_alone(job(tmp_path), worker="dying_worker", patience=1)
    assert says in found.note and found.peak_bytes is None
    assert "dying_worker" not in sys.modules
