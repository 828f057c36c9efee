"""Every pass is one class in a file of its own, states its contract, and has a test of the same name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import rope_deploy.graph.passes

PASSES = Path(rope_deploy.graph.passes.__file__).parent
MODULES = sorted(path.stem for path in PASSES.glob("*.py") if path.stem not in ("__init__", "sequences"))
CONTRACT = ("Requires", "nsures", "hanges nothing")


def passes_in(source: str) -> list[ast.ClassDef]:
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    return [one for one in classes if any(ast.unparse(base).startswith("ir.passes.") for base in one.bases)]


def unstated(source: str) -> list[str]:
    (one,) = passes_in(source)
    return [part for part in CONTRACT if part not in (ast.get_docstring(one) or "")]


@pytest.mark.parametrize("module", MODULES)
def test_it_is_one_class_and_has_a_test(module):
    assert len(passes_in((PASSES / f"{module}.py").read_text())) == 1
    assert Path(__file__).with_name(f"test_{module}.py").exists()


@pytest.mark.parametrize("module", [module for module in MODULES if module != "library_pass"])
def test_its_docstring_states_the_contract(module):
    assert unstated((PASSES / f"{module}.py").read_text()) == []


def test_a_missing_contract_is_noticed():
    assert unstated('class OnePass(ir.passes.InPlacePass):\n    """Requires nothing."""') == [
        "nsures",
        "hanges nothing",
    ]
