"""Every child is started in one place, imports nothing from where it stands, and dies alone."""

import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rope_deploy.childprocess import UNLIMITED, Limits, call, environment, how_ended, python
from rope_deploy.errors import ConfigError, EnvironmentMissing, RuntimeCrashed, VendorError

pytestmark = pytest.mark.children

ROOT = Path(__file__).parent.parent
HERE = "tests.crashes"
# What `bench` would import without -P where somebody left a numpy.py behind.
TRAP = "open('PWNED', 'w').close()\nraise SystemExit(0)\n"


def starters(root: Path) -> list[str]:
    """Files of the package that name the interpreter themselves."""
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"sys\.executable|multiprocessing|os\.(fork|exec|spawn|system|popen)", path.read_text())
    )


def test_nothing_else_in_the_package_starts_python(tmp_path):
    # Validation forks, for milliseconds of C++: no interpreter is started, and nothing is imported.
    assert starters(ROOT / "rope_deploy") == ["childprocess.py", "graph/validation/run_in_fork.py"]
    (tmp_path / "other.py").write_text("import sys\nstart(sys.executable)\n")
    assert starters(tmp_path) == ["other.py"]


def test_a_function_answers_as_here_and_says_its_steps():
    steps = []
    assert call(f"{HERE}:answers", 1, other={"a": Path("b")}, doing="Asking", progress=steps.append) == (
        1,
        {"a": Path("b")},
    )
    assert steps == ["first", "second"]


def test_modules_of_the_working_directory_are_not_imported(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text(TRAP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:")  # an empty entry means the working directory
    found, path, deaf = call(f"{HERE}:imports", doing="Importing")
    assert Path(found).parent != tmp_path and deaf
    assert "" not in path and str(tmp_path) not in path
    assert not (tmp_path / "PWNED").exists()
    twin = subprocess.run([sys.executable, "-c", "import numpy"], env=environment(), capture_output=True, timeout=60)
    assert twin.returncode == 0 and (tmp_path / "PWNED").exists()  # the trap works
    assert python()[1] == "-P"


def test_neither_does_the_module_started_as_a_program(tmp_path):
    (tmp_path / "click.py").write_text(TRAP)
    ran = subprocess.run(
        [sys.executable, "-m", "rope_deploy", "--version"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout.startswith("rope-deploy ") and not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("by", [signal.SIGSEGV, signal.SIGABRT])
def test_a_death_is_an_error_that_names_the_file_last_worked_on(by):
    with pytest.raises(RuntimeCrashed) as caught:
        call(f"{HERE}:dies", by, doing="Reading the first file", progress=lambda step: None)
    assert caught.value.asked.startswith(f"Reading the second file ended by {by.name}")
    assert "so this is how it ends" in caught.value.exists


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


@pytest.mark.parametrize(("code", "words"), [(3, "with exit code 3"), (-11, "by SIGSEGV"), (-63, "by signal 63")])
def test_how_it_ended(code, words):
    assert how_ended(code) == words
