"""A call in a child gives a value, an error of the function's own, or an error that explains the death."""

import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from rope_deploy.childprocess import UNLIMITED, ChildTimedOut, Limits, call, environment, python, run_in_child
from rope_deploy.childprocess.wire_messages import Task
from rope_deploy.errors import ConfigError, EnvironmentMissing, RuntimeCrashed, VendorError

pytestmark = pytest.mark.children

HERE = "tests.crashes"


def test_a_function_answers_as_here_and_says_its_steps():
    steps = []
    assert call(f"{HERE}:answers", 1, other={"a": Path("b")}, doing="Asking", progress=steps.append) == (
        1,
        {"a": Path("b")},
    )
    assert steps == ["first", "second"]


@pytest.mark.parametrize("by", [signal.SIGSEGV, signal.SIGABRT])
def test_a_death_is_an_error_that_names_the_file_last_worked_on(by):
    with pytest.raises(RuntimeCrashed) as caught:
        call(f"{HERE}:dies", by, doing="Reading the first file", progress=lambda step: None)
    assert caught.value.asked.startswith(f"Reading the second file ended by {by.name}")
    assert "so this is how it ends" in caught.value.exists


def test_damaged_bytes_are_the_death_of_the_child():
    with pytest.raises(RuntimeCrashed, match="Reading the second file sends what is no answer"):
        call(f"{HERE}:writes_over_answers", doing="Reading", progress=lambda step: None)


def test_limits_are_errors_in_words(monkeypatch):
    with pytest.raises(VendorError, match="Spinning took more than 1 seconds"):
        call(f"{HERE}:spins", doing="Spinning", limits=Limits(seconds=1))
    with pytest.raises(EnvironmentMissing, match=r"1\.1 GB were allowed"):
        call(f"{HERE}:grows", doing="Growing", limits=Limits(bytes=1 << 30))
    with pytest.raises(EnvironmentMissing, match="memory runs out"):
        call(f"{HERE}:dies", signal.SIGKILL, doing="Reading")
    monkeypatch.setenv(UNLIMITED, "1")
    assert call(f"{HERE}:grows", doing="Growing", limits=Limits(bytes=1 << 30)) == 1 << 34


def test_limits_grow_with_the_files(tmp_path):
    (tmp_path / "model.onnx").write_bytes(bytes(64 << 20))
    small, large = Limits.of_file(tmp_path / "none" / "model.onnx"), Limits.of_file(tmp_path / "model.onnx")
    assert large == Limits.of_file(tmp_path)
    assert large.seconds > small.seconds and large.bytes - small.bytes == 4 * (64 << 20)


def test_errors_of_the_child_are_errors_of_this_process():
    with pytest.raises(ConfigError) as caught:
        call(f"{HERE}:refuses", doing="Asking")
    error = caught.value
    assert (error.asked, error.faults, error.exists, error.todo) == ("No.", ("one", "two"), "That.", "This.")
    with pytest.raises(ValueError, match="a fault of ours") as caught:
        call(f"{HERE}:raises", "plain", doing="Asking")
    assert "crashes.py" in caught.value.__notes__[0]  # where it happened, for --traceback
    with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
        call(f"{HERE}:raises", "odd", doing="Asking")


@pytest.fixture
def interruptible():
    """A shell's background jobs begin with the interrupt ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_child_that_is_stopped_removes_what_it_had_begun(tmp_path, interruptible):
    file = tmp_path / "half"

    def interrupt():
        while not file.exists():
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    with pytest.raises(KeyboardInterrupt):
        call(f"{HERE}:writes", str(file), doing="Writing")
    waiting.join()
    assert not file.exists()


def test_patience_ends():
    began = time.monotonic()
    with pytest.raises(ChildTimedOut, match="longer than 1 s"):
        run_in_child(Task(f"{HERE}:spins"), patience=1)
    assert time.monotonic() - began < 30


def test_what_cannot_be_pickled_is_an_error_of_this_process_or_of_the_child():
    with pytest.raises((AttributeError, TypeError, RuntimeError), match=r"lambda|pickle"):
        call(f"{HERE}:answers", lambda: 1, other=2, doing="Asking")
    with pytest.raises((AttributeError, TypeError, RuntimeError), match=r"lambda|pickle"):
        call(f"{HERE}:unpicklable", doing="Asking")


@pytest.mark.parametrize("function", ["spins", "sleeps_in_native_code"])
def test_a_child_whose_parent_is_gone_ends_by_itself(tmp_path, function):
    code = f"""
import os
from rope_deploy.childprocess.child import Child
from rope_deploy.childprocess.wire_messages import Task
child = Child(Task({f"{HERE}:{function}"!r}))
print(child.pid, flush=True)
os._exit(0)
"""
    ran = subprocess.run(python("-c", code), capture_output=True, text=True, env=environment(), timeout=60)
    with suppress(psutil.NoSuchProcess):  # it may be gone already
        child = psutil.Process(int(ran.stdout))
        until = time.monotonic() + 30
        while time.monotonic() < until and child.status() != psutil.STATUS_ZOMBIE:  # not every init collects
            time.sleep(0.05)
        assert child.status() == psutil.STATUS_ZOMBIE
