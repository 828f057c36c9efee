"""The styles are declared once: everything that names them follows `rope_deploy.styles`."""

from __future__ import annotations

import ast

from rope_deploy.graph.lower.lowerings import LOWERINGS
from rope_deploy.graph.rotating_operators import OPERATORS
from rope_deploy.styles import STYLES
from tests.folders import ROOT, comparisons_with

PACKAGE = ROOT / "rope_deploy"
FOLDERS = ("rope_deploy", "conformance", "faults", "fuzz")
# The records, and the table that binds each of them to the function that writes it.
ALLOWED = {PACKAGE / "styles.py", PACKAGE / "graph" / "lower" / "lowerings.py"}


def lists_of_styles(source: str) -> list[int]:
    """The lines of `source` where several styles are named in one tuple, list, set, dictionary, type or call."""
    found = []
    for node in ast.walk(ast.parse(source)):
        parts = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", None) or getattr(node, "args", None)
        if isinstance(parts, list):
            named = {part.value for part in parts if isinstance(part, ast.Constant)} & set(STYLES)
            found += [node.lineno] if len(named) > 1 else []
    return found


def test_no_module_has_a_list_of_styles_of_its_own() -> None:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path not in ALLOWED]
    assert {path: lines for path in paths if (lines := lists_of_styles(path.read_text()))} == {}


def test_no_module_decides_by_the_name_of_a_style() -> None:
    """What one style does and others do not is said by a field of its record."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert {path: lines for path in paths if (lines := comparisons_with(STYLES, path.read_text()))} == {}


def test_the_guard_sees_every_kind_of_list() -> None:
    for text in ('("onnx", "tables")', '["onnx", "plugin"]', '{"onnx": 1, "contrib": 2}', 'Literal["onnx", "tables"]'):
        assert lists_of_styles(f"\nfound = {text}") == [2], text
    assert lists_of_styles('one = ("onnx", "other")') == []
    assert comparisons_with(STYLES, 'found = style == "contrib"') == [1]
    assert comparisons_with(STYLES, 'found = form == "fused"') == []


def test_each_style_has_a_function_that_writes_it() -> None:
    assert tuple(LOWERINGS) == tuple(STYLES)


def test_every_operator_that_a_lowering_writes_names_a_style() -> None:
    assert {operator.style for operator in OPERATORS if operator.style} <= set(STYLES)
