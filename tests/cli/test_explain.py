"""`check --explain` needs no artifact and starts no framework."""

import json

import pytest

from rope_deploy.cli.main import main
from rope_deploy.results.code_pages import page_of
from rope_deploy.results.codes import CODES


@pytest.mark.parametrize("code", ["RD105", "rd105"])
def test_a_code_is_explained_without_an_artifact(capsys, code):
    assert main(["check", "--explain", code]) == 0
    assert capsys.readouterr().out == page_of("RD105").to_markdown()


def test_all_lists_the_codes(capsys):
    assert main(["check", "--explain", "all"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == list(CODES)


@pytest.mark.parametrize("arguments", [["--explain", "RD301", "--json"], ["--json", "--explain", "RD301"]])
def test_json_gives_the_parts(capsys, arguments):
    assert main(["check", *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["code", "title", "what", "why", "example", "fix"]
    assert document["title"] == CODES["RD301"] and all(document.values())


def test_json_gives_all_codes(capsys):
    assert main(["check", "--explain", "all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == dict(CODES)


def test_an_unknown_code_is_wrong_usage_with_the_nearest_ones(capsys):
    assert main(["check", "--explain", "RD208"]) == 2
    found = capsys.readouterr()
    assert found.out == "" and "RD207" in found.err and "RD209" in found.err


def test_an_unknown_code_is_one_json_document_as_well(capsys):
    assert main(["check", "--explain", "nonsense", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2


def test_without_a_code_an_artifact_is_asked_for(capsys):
    assert main(["check"]) == 2
    assert "DIR" in capsys.readouterr().err
