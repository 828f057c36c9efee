"""The floors of the package hold, and the guard that says so can fail."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the copy of the package that lies in `root`."""
    program = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-logo", "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "rope_deploy", tmp_path / "rope_deploy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def test_every_package_imports_only_from_floors_below() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_an_import_from_a_floor_above_is_caught(copy: Path) -> None:
    with (copy / "rope_deploy" / "artifact" / "__init__.py").open("a") as stream:
        stream.write("\nimport rope_deploy.cli.main\n")
    result = lint_imports(copy)
    assert result.returncode == 1
    assert "rope_deploy.artifact -> rope_deploy.cli.main" in result.stdout


def test_an_import_from_a_sibling_is_caught(copy: Path) -> None:
    with (copy / "rope_deploy" / "rope" / "__init__.py").open("a") as stream:
        stream.write("\nimport rope_deploy.config\n")
    assert lint_imports(copy).returncode == 1


def test_a_module_without_a_floor_is_caught(copy: Path) -> None:
    (copy / "rope_deploy" / "newcomer.py").write_text("")
    result = lint_imports(copy)
    assert result.returncode == 1
    assert "newcomer" in result.stdout


@pytest.mark.parametrize(("package", "library"), [("rope", "torch"), ("config", "jinja2"), ("runs", "onnxruntime")])
def test_a_library_imported_outside_its_packages_is_caught(copy: Path, package: str, library: str) -> None:
    with (copy / "rope_deploy" / package / "__init__.py").open("a") as stream:
        stream.write(f"\nimport {library}\n")
    result = lint_imports(copy)
    assert result.returncode == 1
    assert f"rope_deploy.{package} -> {library}" in result.stdout
