"""A diagnosis is the first thing a report says, once, in every format."""

import math
from dataclasses import replace

import pytest

from rope_deploy.report import render
from rope_deploy.report.grouped_mistakes import mistakes, worst_check
from rope_deploy.report.summary import headline

FORMATS = ("terminal", "markdown", "html")


@pytest.mark.parametrize("format", FORMATS)
def test_code_place_explanation_fit_and_the_command_to_learn_more_are_shown(diagnosed, format):
    page = render(diagnosed, format).replace("&#95;", "_")
    for part in (
        "RD301",
        "rope_theta is wrong",
        "q and k of layer 17, from position 1",
        "rope_theta is 10 000 instead of 100 000.",
        "420 times what rounding explains; 0.3 times with this mistake repeated",
        "rope-deploy check --explain RD301",
    ):
        assert part in page, part


@pytest.mark.parametrize("format", FORMATS)
def test_the_diagnosis_comes_right_after_the_verdict(diagnosed, format):
    page = render(diagnosed, format)
    table = {"terminal": "Closest to its tolerance", "markdown": "| Style |", "html": "<table>"}[format]
    verdict = {"terminal": "FAILED", "markdown": "failed", "html": "<b>Failed</b>"}[format]
    assert page.index(verdict) < page.index("RD301") < page.index(table)


@pytest.mark.parametrize("format", FORMATS)
def test_a_sound_report_speaks_of_no_mistake(mapped, format):
    page = render(mapped, format)
    assert "RD3" not in page and "--explain" not in page and "mistake" not in page.split("</style>")[-1]


def test_the_headline_counts_mistakes(diagnosed, passing):
    assert headline(diagnosed) == "1 mistake was found; 1 of 23 checks failed. 1 item skipped."
    assert "mistake" not in headline(passing)
    assert headline(replace(diagnosed, checks=passing.checks)).startswith("1 mistake was found.")


def test_what_several_styles_share_is_said_once(diagnosed):
    (record,) = diagnosed.diagnoses
    other = replace(record, style="tables", error=9e8, cases=("prefill", "strided"))
    (only,) = mistakes(replace(diagnosed, diagnoses=(record, other)))
    assert only.target == "onnx · ONNX Runtime, tables · ONNX Runtime"
    assert only.fit.startswith("9e8 times") and only.cases == "prefill, decode, last-positions and 2 more"
    assert len(mistakes(replace(diagnosed, diagnoses=(record, replace(other, layers=(3,)))))) == 2


@pytest.mark.parametrize(
    ("error", "residual", "fit"),
    [
        (0.0, 0.0, ""),
        (420.0, 0.3, "420 times what rounding explains; 0.3 times with this mistake repeated"),
        (420.0, 420.0, "420 times what rounding explains"),
        (math.inf, 0.0, "infinitely many times what rounding explains; 0.0 times with this mistake repeated"),
    ],
)
def test_the_fit_says_how_well_the_mistake_explains_what_was_seen(diagnosed, error, residual, fit):
    (record,) = diagnosed.diagnoses
    (only,) = mistakes(replace(diagnosed, diagnoses=(replace(record, error=error, residual=residual),)))
    assert only.fit == fit


def test_failed_checks_beside_a_diagnosis_are_symptoms_and_cut_short(diagnosed):
    many = replace(diagnosed, checks=diagnosed.checks * 9)
    assert "and 6 more in the report files" in render(many, "terminal")
    assert "and 6 more</summary>" in render(many, "html")
    assert "- and 4 more" in render(many, "markdown")


def test_many_mistakes_are_counted_on_a_terminal_and_folded_on_a_page(diagnosed):
    (record,) = diagnosed.diagnoses
    many = replace(diagnosed, diagnoses=tuple(replace(record, layers=(n,)) for n in range(25)))
    assert "and 15 more in the report files" in render(many, "terminal")
    assert "and 5 more" in render(many, "markdown")
    page = render(many, "html")
    assert page.count('class="card mistake"') == 25 and "and 21 more mistakes" in page


def test_the_worst_check_is_the_failed_one_furthest_over_its_limit(diagnosed, passing):
    assert worst_check(diagnosed).worst.layer == 17
    assert worst_check(passing) is None
