"""What a real check of a broken artifact shows, from the graph to the page."""

import pytest

from faults.wrong_artifacts import with_other_sine
from rope_deploy import api
from rope_deploy.cli.main import main
from rope_deploy.report import render


@pytest.fixture(scope="module")
def broken(artifacts, tmp_path_factory):
    return with_other_sine(artifacts / "onnx", tmp_path_factory.mktemp("broken") / "onnx", lambda sine: -sine)


@pytest.fixture(scope="module")
def report(broken):
    return api.check(broken, quick=True, ignore_hashes=True)


@pytest.mark.parametrize("format", ["terminal", "markdown", "html", "json"])
def test_every_format_names_the_mistake_and_where_it_is(report, format):
    page = render(report, format)
    assert "RD102" in page and "The rotation goes the wrong way" in page and "from position 1 on" in page


def test_the_picture_shows_it_in_every_layer_of_both_roles(report):
    page = render(report, "html")
    above = page[: page.index("<h2>Details</h2>")]
    assert above.count('<i class="ring"') == 2 and "queries" in above and "keys" in above


def test_the_sound_twin_shows_neither(artifacts):
    page = render(api.check(artifacts / "onnx", quick=True), "html")
    assert "RD102" not in page and '<i class="ring"' not in page and "<b>Passed</b>" in page


def test_the_command_prints_the_diagnosis_and_exits_with_one(broken, capsys):
    assert main(["check", str(broken), "--ignore-hashes", "--case", "prefill"]) == 1
    assert "rope-deploy check --explain RD102" in capsys.readouterr().out
