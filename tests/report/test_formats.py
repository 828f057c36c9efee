"""Every format tells the same story, and says loudly when something failed."""

import re
import subprocess
import sys

import pytest

from rope_deploy.errors import UsageError
from rope_deploy.report import FILE_NAMES, FORMATS, format_of, render


@pytest.mark.parametrize("format", FORMATS)
def test_a_planted_failure_shows_in_every_format_and_a_pass_does_not(format, passing, failing):
    good, bad = render(passing, format), render(failing, format)
    for seen in ("Rotated keys differ from position 17 on", "The runtime refused the model", "The builder ran out"):
        assert seen in bad
        assert seen not in good
    assert re.search(r"\bFAILED|[\"']failed|Failed|: failed", bad)
    assert not re.search(r"\bFAILED\b|\"failed\"|>Failed<|: failed", good)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("which", ["passing", "failing", "empty", "nasty"])
def test_every_report_renders_ends_in_a_newline_and_encodes(format, which, request):
    text = render(request.getfixturevalue(which), format)
    assert text.endswith("\n")
    text.encode("utf-8")


@pytest.mark.parametrize("format", FORMATS)
def test_rendering_is_repeatable(format, failing):
    assert render(failing, format) == render(failing, format)


@pytest.mark.parametrize("format", [f for f in FORMATS if f != "json"])
def test_no_control_character_survives(format, nasty):
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ufffe\ud800-\udfff]", render(nasty, format))


def test_an_unknown_format_is_a_usage_error(passing):
    with pytest.raises(UsageError, match="no report format pdf"):
        render(passing, "pdf")


def test_the_ending_of_a_file_names_its_format():
    assert {format_of(name): name for name in FILE_NAMES.values()} == FILE_NAMES
    assert format_of("A.HTML") == "html"
    for name in ("report.txt", "report", ".json"):
        with pytest.raises(UsageError, match="Known endings"):
            format_of(name)


def test_asking_for_a_report_imports_nothing_heavy():
    heavy = {"rich", "jinja2", "matplotlib", "pydantic", "torch"}
    code = f"import sys, rope_deploy.report; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
