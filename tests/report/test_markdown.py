"""A job summary: verdict in the first line, tables that stay tables whatever is put into them."""

import re

from rope_deploy.report.markdown import text, to_markdown


def test_the_verdict_is_the_first_line(passing, failing, empty):
    assert to_markdown(passing).startswith("# ✅ SmolLM2-135M-Instruct: passed\n")
    assert to_markdown(failing).startswith("# ❌ SmolLM2-135M-Instruct: failed\n")
    assert to_markdown(empty).startswith("# ⚪ t: not judged\n")


def test_a_failing_row_is_marked_and_a_passing_one_is_not(failing):
    lines = to_markdown(failing).splitlines()
    assert any(line.startswith("| ❌ | onnx | ONNX Runtime | 5 of 6 |") for line in lines)
    assert any(line.startswith("| ✅ | tables | ONNX Runtime | 6 of 6 |") for line in lines)


def test_what_failed_is_listed_only_when_something_did(passing, failing):
    assert "## What failed" not in to_markdown(passing)
    assert to_markdown(failing).count("\n- **") == 5


def test_every_row_of_a_table_has_as_many_cells_as_its_head(nasty):
    table: list[int] = []
    for line in [*to_markdown(nasty).splitlines(), ""]:
        if line.startswith("|"):
            table.append(line.count("|"))
        else:
            assert len(set(table)) <= 1
            table = []


def test_values_bring_no_markup_of_their_own(nasty):
    body = to_markdown(nasty)
    assert set(re.findall(r"</?([a-z]+)", body)) <= {"code", "details", "summary", "sub", "br"}
    assert "http://" not in body and "@someone" not in body and "](" not in body


def test_a_value_at_the_start_of_a_line_starts_no_list():
    assert text("- a") == "&#45; a" and text("1. a") == "1&#46; a" and text("12) a") == "12&#41; a"
    assert text("3.1e-5 at 8.0") == "3.1e-5 at 8.0"


def test_many_failures_are_cut_and_counted(failing):
    from dataclasses import replace

    many = replace(failing, checks=failing.checks * 20)
    body = to_markdown(many)
    assert "- and 23 more" in body
