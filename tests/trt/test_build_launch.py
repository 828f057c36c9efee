import time

import psutil
import pytest

from rope_deploy.errors import ConfigError, EnvironmentMissing, UsageError, VendorError
from rope_deploy.trt.build_job import Job, Progress
from rope_deploy.trt.build_launch import Outcome, run_worker

STAND_IN = "tests.trt.stand_in"


def run(how, tmp_path, progress=None, flavor="rtx"):
    job = Job(flavor=flavor, model=how, output=str(tmp_path / "out"), profiles=({"x": ((1,), (2,), (3,))},))
    return run_worker(job, progress, worker=STAND_IN)


def test_a_job_survives_the_trip():
    job = Job("rtx", "m", "o", ({"x": ((1, 2), (3, 4), (5, 6))},), ("8.0",), plugin="p", timing_cache=None)
    back = Job.from_json(job.to_json())
    assert back.to_json() == job.to_json()
    assert back.capabilities == job.capabilities


def test_a_finished_worker_gives_its_version_time_and_warnings(tmp_path):
    assert run("finish", tmp_path) == Outcome("1.2", 0.5, ("out of ideas",))


@pytest.mark.parametrize(("flavor", "value"), [("rtx", "1"), ("tensorrt", "0")])
def test_polygraphy_learns_the_flavour_from_the_environment_of_the_worker(tmp_path, flavor, value):
    seen = []
    run("finish", tmp_path, seen.append, flavor)
    assert seen == [Progress(value)]


def test_an_abort_of_the_library_becomes_an_error_with_its_last_words(tmp_path):
    with pytest.raises(VendorError, match="SIGABRT") as caught:
        run("abort", tmp_path)
    for words in ("terminate called", "out of ideas", "the library prints"):
        assert words in caught.value.exists


def test_a_killed_worker_hints_at_memory(tmp_path):
    with pytest.raises(VendorError, match="SIGKILL") as caught:
        run("killed", tmp_path)
    assert "memory" in caught.value.todo


def test_a_worker_that_leaves_without_a_verdict_is_an_error(tmp_path):
    with pytest.raises(VendorError, match="exit code 3"):
        run("exit", tmp_path)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("parse", VendorError),
        ("build", VendorError),
        ("plugin", VendorError),
        ("profile", ConfigError),
        ("capability", UsageError),
        ("import", EnvironmentMissing),
        ("memory", EnvironmentMissing),
    ],
)
def test_each_kind_of_failure_has_its_class(tmp_path, kind, error):
    with pytest.raises(error, match="It failed") as caught:
        run(kind, tmp_path)
    assert kind in ("import", "memory") or "the second" in str(caught.value)


def test_an_interrupt_ends_the_worker(tmp_path):
    def interrupt(progress):
        while not (tmp_path / "out").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    before, started = set(psutil.Process().children()), time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run("hang", tmp_path, interrupt)
    assert time.monotonic() - started < 60
    assert set(psutil.Process().children()) <= before, "no child is left, dead or alive"
