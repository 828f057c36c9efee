"""One configuration file, one verdict, through the command line."""

import json
from pathlib import Path

import pytest

from rope_deploy.cli.main import main

CONFIG = """
title = "tiny"
[model]
source = "{source}"
[export]
styles = ["tables", "contrib"]
[build]
flavor = "rtx"
style = "tables"
compute_capabilities = ["8.9"]
[check]
runtimes = ["ort", "trt"]
[bench]
prompt = 8
new = 2
rounds = 2
[generate]
prompts = ["abc"]
new_tokens = 4
[gates]
{gates}
[output]
folder = "{folder}"
"""


def write_config(folder: Path, source: Path, gates: str) -> Path:
    path = folder / "run.toml"
    path.write_text(CONFIG.format(source=source, folder=folder / "out", gates=gates))
    return path


def test_a_run_that_holds_exits_with_0_and_leaves_every_report(source, tmp_path, capfd):
    config = write_config(tmp_path, source, "max_runtime_cos_sin = 0\nmax_logits_error = 1e-3")
    assert main(["ci", str(config), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["verdict"] == "passed"
    assert {Path(path).name for path in document["files"].values()} == {
        "report.json",
        "report.xml",
        "report.md",
        "report.html",
    }
    assert all(Path(path).stat().st_size > 500 for path in document["files"].values())
    assert [engine["verdict"] for engine in document["engines"]] == ["passed"]
    assert all(generation["agrees"] in (True, None) for generation in document["generations"])
    # No GPU: what was not run on the engine is said to be skipped, never passed.
    engines = [check for check in document["checks"] if check["runtime"] == "trt"]
    assert all(check["verdict"] == "skipped" or "Not run" not in check["message"] for check in engines)


def test_a_gate_that_does_not_hold_exits_with_1_and_still_reports(source, tmp_path, capfd):
    config = write_config(tmp_path, source, "max_artifact_bytes = 10")
    assert main(["ci", str(config)]) == 1
    assert "max_artifact_bytes" in capfd.readouterr().out
    assert (tmp_path / "out" / "report.xml").read_text().count("<failure") >= 1


def test_an_existing_output_is_refused_before_the_model_is_loaded(source, tmp_path, capfd):
    config = write_config(tmp_path, tmp_path / "no-such-model", "")
    (tmp_path / "out" / "tables").mkdir(parents=True)
    assert main(["ci", str(config)]) == 2
    assert "exists already" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"), [("title = 3\n[model]\nsauce = 'x'\n", "sauce"), ("not toml", "TOML"), (None, "no")]
)
def test_a_faulty_configuration_exits_with_2_and_names_the_fault(tmp_path, capfd, text, said):
    path = tmp_path / "run.toml"
    if text is not None:
        path.write_text(text)
    assert main(["ci", str(path)]) == 2
    error = capfd.readouterr().err
    assert said in error
    assert "Traceback" not in error
