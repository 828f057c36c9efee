"""Every child is started in one place, and imports nothing from where it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rope_deploy.childprocess import call, environment, how_ended, python

pytestmark = pytest.mark.children

ROOT = Path(__file__).parent.parent.parent
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
    assert starters(ROOT / "rope_deploy") == ["childprocess/fork.py", "childprocess/interpreter.py"]
    (tmp_path / "other.py").write_text("import sys\nstart(sys.executable)\n")
    assert starters(tmp_path) == ["other.py"]


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


@pytest.mark.parametrize(("code", "words"), [(3, "with exit code 3"), (-11, "by SIGSEGV"), (-63, "by signal 63")])
def test_how_it_ended(code, words):
    assert how_ended(code) == words
