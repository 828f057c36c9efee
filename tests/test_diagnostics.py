"""docs/diagnostics.md is what the pages say, its figures are what is computed, its links lead somewhere."""

import ast
import re
from pathlib import Path

import pytest

from docs import generate
from docs.numbers import NUMBERS
from faults.bare_rotation import PLANTS, diagnosed
from rope_deploy.results.code_pages import page_text
from rope_deploy.results.codes import CODES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "diagnostics.md").read_text()
AGAIN = "run `python -m docs.generate`"


def test_the_page_is_generated_from_the_pages_of_the_package():
    assert generate.diagnostics() == PAGE, AGAIN


def test_every_code_has_an_anchor_and_is_reached_from_a_symptom():
    symptoms = PAGE[: PAGE.index("## All codes")]
    for code in CODES:
        assert f"\n## {code}\n" in PAGE
        assert f"(#{code.lower()})" in symptoms or code in ("RD601", "RD606", "RD607", "RD608", "RD609", "RD900"), code


@pytest.mark.parametrize("code", NUMBERS)
def test_the_figures_of_an_example_are_computed(code):
    assert f"```numbers\n{NUMBERS[code]()}\n```" in page_text(code), AGAIN


@pytest.mark.parametrize("code", PLANTS)
def test_a_planted_mistake_is_given_the_code_of_its_page(code):
    records = diagnosed(PLANTS[code])
    assert {record.code for record in records} == {code}
    layers = {layer for record in records for layer in record.layers}
    assert layers == set(PLANTS[code].layers)
    assert generate.said(records) in page_text(code), AGAIN


@pytest.mark.parametrize("code", ["RD101", "RD109", "RD307", "RD401"])
def test_without_the_mistake_nothing_is_diagnosed(code):
    from dataclasses import replace

    from faults.bare_rotation import right

    plant = PLANTS[code]
    assert diagnosed(replace(plant, does=lambda call: right(plant.spec, call))) == ()


def test_examples_that_are_not_computed_are_only_those_of_codes_that_are_no_rotation():
    assert set(CODES) - set(NUMBERS) == {code for code in CODES if code.startswith("RD6")} | {"RD901", "RD902"}
    assert set(NUMBERS) - set(PLANTS) == {"RD110", "RD209", "RD210"}


def test_an_edited_figure_is_noticed():
    text = page_text("RD301")
    edited = text.replace("56.23", "56.24")
    assert edited != text and generate.refreshed("RD301", edited) == text


def test_codes_and_issues_become_links_outside_of_code():
    found = generate.linked("See RD101 and `RD102`, onnx/onnx#6480.\n```text\nRD103\n```\n## RD104\n")
    assert "[RD101](#rd101)" in found and "`RD102`" in found and "\nRD103\n" in found and "## RD104" in found
    assert "[onnx/onnx #6480](https://github.com/onnx/onnx/issues/6480)" in found


def test_every_code_that_is_mentioned_exists():
    for code in {*re.findall(r"\bRD\d{3}\b", PAGE)}:
        assert code in CODES


@pytest.mark.parametrize(("code", "first"), [("RD101", 1), ("RD106", 1), ("RD202", 8), ("RD401", 0), ("RD503", 1)])
def test_a_diagnosis_says_from_which_position_on_it_is_wrong(code, first):
    (record,) = diagnosed(PLANTS[code])
    assert record.where.endswith(f", from position {first} on")


def test_a_table_that_ends_is_wrong_from_behind_its_end():
    (record,) = diagnosed(PLANTS["RD207"])
    assert record.where.endswith("from position 512 on")


STATIC = {
    "RD601": ("graph/raising/tabulate.py", "its table differs between heads"),
    "RD602": ("audit/judge_sites.py", "rotations in the file; "),
    "RD603": ("parity/diagnose_cases.py", "rotates them otherwise."),
    "RD604": ("audit/judge_positions.py", "and tokens after a cache do not go on counting from it."),
    "RD605": ("audit/judge_positions.py", "Cos and Sin run for every call; a table would replace them."),
    "RD606": ("audit/audit_artifact.py", "changed since the export; what follows is about the files as they are."),
    "RD607": ("runs/manifest_claims.py", " rows."),
    "RD608": ("runs/artifact_limits.py", "Not judged, and not allowed by name ("),
    "RD609": ("audit/judge_tables.py", "too, and not from each token's position alone."),
    "RD901": (
        "parity/diagnose_cases.py",
        "Every rotation that could be seen is right for its input. The first tensor that differs:",
    ),
    "RD902": ("parity/diagnose_cases.py", "of the cases"),
}


@pytest.mark.parametrize(("code", "module", "text"), [(code, *found) for code, found in STATIC.items()])
def test_examples_that_are_not_computed_quote_the_module_that_says_it(code, module, text):
    """They need a file or a runtime that dies; what is quoted of them must still be what is said."""
    tree = ast.parse((ROOT / "rope_deploy" / module).read_text())
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert text in " ".join(page_text(code).split())
    assert any(text in string for string in strings)
