"""`rope-deploy check --audit`: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json

import pytest

from rope_deploy.cli.main import main
from tests.audit.files import CONFIG, Decoder, config, stored, write


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "model.onnx", Decoder(form="fused", tables=stored(CONFIG)), CONFIG)


def test_a_right_file_ends_with_0_and_says_what_was_found(file, capsys):
    assert main(["check", "--audit", str(file)]) == 0
    out = "".join(capsys.readouterr().out.split())  # lines break anywhere in a long path
    assert "PASSED" in out and "4sites" in out and "config.json" in out


def test_a_wrong_file_ends_with_1_and_names_the_mistake(file, tmp_path, capsys):
    other = tmp_path / "other.json"
    other.write_text(json.dumps(config(rope_parameters={"rope_type": "default", "rope_theta": 500_000.0})))
    assert main(["check", "--audit", str(file), "--against", str(other)]) == 1
    out = capsys.readouterr().out
    assert "RD301" in out and "--explain RD301" in out


def test_json_is_one_document(file, capsys):
    assert main(["check", "--audit", str(file), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "passed"
    assert {check["runtime"] for check in document["checks"]} == {"file"}


def test_reports_are_written_in_every_format(file, tmp_path):
    names = ["a.json", "a.xml", "a.md", "a.html", "a.sarif"]
    options = [option for name in names for option in ("--report", str(tmp_path / name))]
    assert main(["check", "--audit", str(file), *options]) == 0
    assert all((tmp_path / name).stat().st_size > 100 for name in names)
    assert json.loads((tmp_path / "a.sarif").read_text())["version"] == "2.1.0"


def test_hazards_fail_where_that_is_asked(tmp_path):
    computed = write(tmp_path / "model.onnx", Decoder(), CONFIG)
    assert main(["check", "--audit", str(computed)]) == 0
    assert main(["check", "--audit", str(computed), "--fail-on", "rd605,RD502"]) == 1


def test_positions_that_are_not_needed_need_no_rows(tmp_path):
    short = write(tmp_path / "model.onnx", Decoder(tables=stored(CONFIG, 64)), CONFIG)
    assert main(["check", "--audit", str(short)]) == 1
    assert main(["check", "--audit", str(short), "--max-position", "64"]) == 0


def test_no_framework_is_loaded_for_an_audit_without_a_configuration(file):
    """It must be done in seconds, for files of any size; a configuration is transformers' to read."""
    import subprocess
    import sys

    file.with_name("config.json").unlink()
    program = (
        "import sys; from rope_deploy.cli.main import main; "
        f"assert main(['check', '--audit', {str(file)!r}]) == 0; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=120)


@pytest.mark.parametrize("option", [["--quick"], ["--case", "decode"], ["--no-reference"], ["--accept", "RD301"]])
def test_what_an_audit_has_no_use_for_is_refused(file, option, capsys):
    assert main(["check", "--audit", str(file), *option]) == 2
    assert f"{option[0]} cannot be given with --audit" in " ".join(capsys.readouterr().err.split())


def test_a_graph_is_no_artifact_and_the_message_says_what_looks_at_one(file, capsys):
    assert main(["check", str(file)]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "is a file, and an artifact is a folder" in message and "check --audit" in message
