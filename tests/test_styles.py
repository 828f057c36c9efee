"""The styles are declared once: everything that names them follows `rope_deploy.styles`."""

from __future__ import annotations

import ast
from pathlib import Path

from rope_deploy.graph.lower.lowerings import LOWERINGS
from rope_deploy.graph.rotating_operators import OPERATORS
from rope_deploy.styles import STYLES

PACKAGE = Path(__file__).parent.parent / "rope_deploy"
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
    paths = [path for path in PACKAGE.rglob("*.py") if path not in ALLOWED]
    assert {path: lines for path in paths if (lines := lists_of_styles(path.read_text()))} == {}


def test_the_guard_sees_every_kind_of_list() -> None:
    for text in ('("onnx", "tables")', '["onnx", "plugin"]', '{"onnx": 1, "contrib": 2}', 'Literal["onnx", "tables"]'):
        assert lists_of_styles(f"\nfound = {text}") == [2], text
    assert lists_of_styles('one = ("onnx", "other")') == []


def test_each_style_has_a_function_that_writes_it() -> None:
    assert tuple(LOWERINGS) == tuple(STYLES)


def test_every_operator_that_a_lowering_writes_names_a_style() -> None:
    assert {operator.style for operator in OPERATORS if operator.style} <= set(STYLES)
