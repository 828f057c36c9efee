"""On a terminal in colour, elsewhere as plain text; the verdict comes first either way."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from rope_deploy.report.terminal import show, to_text


def test_the_verdict_is_the_first_line(passing, failing, empty):
    assert to_text(passing).startswith("✓ PASSED  SmolLM2-135M-Instruct")
    assert to_text(failing).startswith("✗ FAILED  SmolLM2-135M-Instruct")
    assert to_text(empty).startswith("– NOT JUDGED  t")


def test_colour_only_on_a_terminal(failing):
    def shown(**options):
        stream = io.StringIO()
        show(failing, Console(file=stream, width=100, **options))
        return stream.getvalue()

    assert "\x1b[1;31m" in shown(force_terminal=True, color_system="standard")
    assert "\x1b" not in shown()


def test_values_cannot_style_or_control_the_terminal(failing):
    hostile = replace(failing, title="[bold]x[/bold] \x1b[2J", notes=("[red]y[/nothing]",))
    text = to_text(hostile)
    assert "[bold]x[/bold] \\x1b[2J" in text and "[red]y[/nothing]" in text


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(failing, width):
    assert max(map(len, to_text(failing, width).splitlines())) <= width


def test_a_console_without_our_marks_still_shows_the_verdict(failing):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    show(failing, Console(file=stream, width=100))
    stream.flush()
    assert b"? FAILED" in raw.getvalue()


def test_many_failures_are_cut_and_counted(failing):
    many = replace(failing, checks=failing.checks * 20)
    assert "and 33 more in the report files" in to_text(many)
