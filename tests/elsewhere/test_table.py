"""The table of faults reported elsewhere is complete, and the tests it names exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TABLE = (ROOT / "docs" / "parts" / "elsewhere.md").read_text()
PAGE = (ROOT / "docs" / "diagnostics.md").read_text()
ROWS = [row for row in TABLE.splitlines() if row.startswith("| ")][1:]

# Every class of failure that was known when this package was planned.
KNOWN = [
    "stable-audio-3#81",
    "stable-audio-3#79",
    "sparseml#1826",
    "optimum-intel#913",
    "optimum-intel#1504",
    "onnxruntime-genai#1161",
    "onnxruntime-genai#1787",
    "onnxruntime-genai#2076",
    "vllm#48621",
    "sglang#22711",
    "mobius#233",
    "llm-export#79",
    "MNN#3345",
    "torch-to-nnef#217",
    "optimum#1381",
    "coreai-models#66",
    "EVA#117",
    "romav2-onnx#6",
    "onnx#6480",
    "pytorch#49793",
    "onnxruntime#29261",
    "openvino#35674",
]


def lost(names: list[str]) -> list[str]:
    """Of tests named as path::name those that are not defined there."""
    absent = []
    for name in names:
        path, _, function = name.partition("::")
        defined = {n.name for n in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(n, ast.FunctionDef)}
        absent += [name] if function not in defined else []
    return absent


@pytest.mark.parametrize("issue", KNOWN)
def test_a_known_fault_has_its_row(issue):
    assert any(re.search(rf"/{re.escape(issue)}\b", row) for row in ROWS)
    repository, _, number = issue.partition("#")
    assert f"{repository} #{number}](https://github.com/" in PAGE


@pytest.mark.parametrize("fault", ["Dynamic NTK", "failure of accuracy", "set after loading"])
def test_a_fault_without_an_issue_has_its_row(fault):
    assert any(fault in row for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_a_row_says_a_code_or_why_there_is_none_and_names_a_test(row):
    _, what, where, here, shown, _ = row.split("|")
    assert what.strip() and where.strip()
    assert re.search(r"RD\d{3}|out of reach|cannot happen", here)
    tests = re.findall(r"`([^`]+::[^`]+)`", shown)
    assert tests and lost(tests) == []


def test_a_test_that_is_gone_is_noticed():
    assert lost(["tests/elsewhere/test_table.py::test_no_such_thing"]) == [
        "tests/elsewhere/test_table.py::test_no_such_thing"
    ]
