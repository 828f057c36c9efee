"""`import rope_deploy` and every `--help` stay light: no framework is imported, and it takes no time."""

import json
import subprocess
import sys
import time

import pytest

from rope_deploy.cli.main import COMMANDS
from tests.runtimes.toy import write_toy

HEAVY = {"jinja2", "numpy", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "polygraphy", "pydantic"}
RUNTIMES = {"onnxruntime", "polygraphy", "tensorrt", "tensorrt_rtx", "torch", "transformers"}
HEAVY |= RUNTIMES


def heavy_modules_after(statement: str) -> set[str]:
    """Top-level heavy modules in a fresh interpreter that has run `statement`."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps([name for name in sys.modules]), file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return HEAVY & set(json.loads(result.stderr.splitlines()[-1]))


def test_importing_the_package_is_light() -> None:
    assert heavy_modules_after("import rope_deploy") == set()


def test_importing_the_api_is_light() -> None:
    assert heavy_modules_after("import rope_deploy.api") <= {"numpy", "pydantic"}


def test_top_help_is_light() -> None:
    assert heavy_modules_after("from rope_deploy.cli.main import main; main(['--help'])") == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_needs_no_framework(command: str) -> None:
    program = f"from rope_deploy.cli.main import main; assert main(['{command}', '--help']) == 0"
    assert heavy_modules_after(program) <= {"numpy", "pydantic"}


EVERY_MODULE = """
import importlib, pkgutil
for name in {packages}:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(module.name)
"""


def test_static_judgement_loads_no_runtime() -> None:
    """diagnosis and audit need numpy, the mathematics and a graph; every module of theirs imports without PyTorch."""
    program = EVERY_MODULE.format(packages=["rope_deploy.diagnosis", "rope_deploy.audit"])
    assert heavy_modules_after(program) & RUNTIMES == set()


def test_diagnosis_needs_no_graph_library() -> None:
    assert heavy_modules_after(EVERY_MODULE.format(packages=["rope_deploy.diagnosis"])) == {"numpy", "pydantic"}


def test_the_guard_sees_a_heavy_import() -> None:
    assert heavy_modules_after("import onnx") >= {"numpy", "onnx"}


def test_top_help_takes_less_than_three_tenths_of_a_second() -> None:
    """The best of several runs, because a busy machine says nothing about ours."""

    def once() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "rope_deploy", "--help"], capture_output=True, timeout=60, check=True)
        return time.perf_counter() - start

    assert min(once() for _ in range(7)) < 0.3


@pytest.mark.parametrize("taps", [False, True])
def test_running_a_graph_needs_no_graph_library(tmp_path, taps: bool) -> None:
    """Each runtime under check imports what it needs in a process of its own."""
    write_toy(tmp_path)
    program = f"from rope_deploy.runtimes import open_ort; open_ort({str(tmp_path)!r}, taps={taps})"
    assert heavy_modules_after(program) == {"numpy", "onnx", "onnxruntime", "pydantic"}
