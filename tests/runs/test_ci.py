"""One configuration file, one verdict, through the command line."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from rope_deploy.cli.main import main
from rope_deploy.report.json_schema import schema
from rope_deploy.runs import ci
from tests import tiny

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
set = "quick"
runtimes = ["ort", "trt"]
allow_limits = ["left_padding", "chunked_prefill_batch", "prompt_positions"]
[bench]
prompt = 8
new = 2
rounds = 2
runtimes = ["torch", "ort", "trt"]
[generate]
prompts = ["abc"]
new_tokens = 4
[gates]
{gates}
[output]
folder = "{folder}"
"""
TIMED = """
[model]
source = "{source}"
[export]
styles = ["tables", "onnx"]
[check]
set = "quick"
[bench]
prompt = [4, 8]
new = 2
rounds = 5
baseline = "{folder}/baseline.json"
[gates]
max_slowdown = {slowdown}
{gates}
[output]
folder = "{folder}/out"
formats = ["json"]
"""
EVERY_GATE = """
max_runtime_cos_sin = 0
max_logits_error = 1e-3
max_rotated_error = 1e-4
max_artifact_bytes = 1_000_000_000
max_nodes = 5000
max_latency_ratio = 1000
all_rotations_converted = true
one_table_per_rotation = true
provider = "CPUExecutionProvider"
"""


def write_config(folder: Path, source: Path, gates: str) -> Path:
    path = folder / "run.toml"
    path.write_text(CONFIG.format(source=source, folder=folder / "out", gates=gates))
    return path


def test_a_run_that_holds_exits_with_0_and_leaves_every_report(source, tmp_path, capfd):
    config = write_config(tmp_path, source, EVERY_GATE)
    assert main(["ci", str(config), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["verdict"] == "passed"
    assert {Path(path).name for path in document["files"].values()} == {
        "report.json",
        "report.xml",
        "report.md",
        "report.html",
        "report.sarif",
    }
    assert all(Path(path).stat().st_size > 500 for path in document["files"].values())
    assert [engine["verdict"] for engine in document["engines"]] == ["passed"]
    assert all(generation["agrees"] in (True, None) for generation in document["generations"])
    # No GPU: what was not run on the engine is said to be skipped, never passed.
    engines = [check for check in document["checks"] if check["runtime"] == "trt"]
    assert all(check["verdict"] == "skipped" or "Not run" not in check["message"] for check in engines)
    *others, engine = document["contestants"]
    assert {one["verdict"] for one in others} == {"passed"} and engine["runtime"] == "trt"
    assert engine["verdict"] == "passed" or engine["message"]
    assert [gate["verdict"] for gate in document["gates"]] == ["passed"] * 9
    assert [graph["providers"].keys() for graph in document["graphs"]] == [{"CPUExecutionProvider"}] * 2
    # What a real run prints and writes keeps to the published schema.
    written = json.loads(Path(document["files"]["json"]).read_text())
    for found in (document, written):
        Draft202012Validator(schema()).validate(found)
    junit = ET.parse(document["files"]["junit"]).getroot()
    assert junit.get("failures") == "0" and "gates" in {suite.get("name") for suite in junit}


FAILING = """
[model]
source = "{source}"
[export]
styles = ["onnx"]
[check]
set = "quick"
[gates]
max_artifact_bytes = 10
max_nodes = 3
provider = "AzureExecutionProvider"
all_rotations_converted = true
[output]
folder = "{folder}"
"""


@pytest.mark.slow
def test_gates_that_do_not_hold_exit_with_1_and_are_reported_one_by_one(source, tmp_path, capfd):
    (tmp_path / "run.toml").write_text(FAILING.format(source=source, folder=tmp_path / "out"))
    assert main(["ci", str(tmp_path / "run.toml")]) == 1
    printed = " ".join(capfd.readouterr().out.split())
    assert "3 of 4 gates failed" in printed and "on CPUExecutionProvider" in printed
    junit = ET.parse(tmp_path / "out" / "report.xml").getroot()
    failed = {case.get("name") for case in junit.iter("testcase") if case.find("failure") is not None}
    assert failed == {"max_artifact_bytes", "max_nodes", "provider"}


def timed(folder, source, *, slowdown=50.0, gates=""):
    path = folder / "timed.toml"
    path.write_text(TIMED.format(source=source, folder=folder, slowdown=slowdown, gates=gates))
    return str(path)


def gates_of(folder):
    return {g["name"]: g for g in json.loads((folder / "out" / "report.json").read_text())["gates"]}


@pytest.mark.slow
def test_a_baseline_is_written_then_held_against_and_a_slowdown_fails(source, tmp_path, capfd):
    config, baseline = timed(tmp_path, source), tmp_path / "baseline.json"
    assert main(["ci", config, "--update-baseline"]) == 0
    printed = "".join(capfd.readouterr().out.split())  # lines break anywhere in a long path
    assert f"Thebaseline{baseline}waswritten." in printed
    written = json.loads(baseline.read_text())
    Draft202012Validator(schema()).validate(written)
    assert {one["workload"] for one in written["latencies"]} == {"prefill 4", "prefill 8", "decode @4", "decode @8"}
    assert all(one["ratio_low"] <= one["ratio"] <= one["ratio_high"] for one in written["latencies"])

    assert main(["ci", config, "--force"]) == 0
    names = [f"max_slowdown: ort {style} {work}" for work in ("prefill 4", "decode @8") for style in ("tables", "onnx")]
    assert set(names) <= gates_of(tmp_path).keys() and len(gates_of(tmp_path)) == 8
    kept = baseline.read_bytes()

    assert main(["ci", timed(tmp_path, source, slowdown=1e-3), "--force"]) == 1
    assert {gate["verdict"] for gate in gates_of(tmp_path).values()} == {"failed"}
    assert baseline.read_bytes() == kept


@pytest.mark.slow
def test_a_baseline_without_processor_times_says_so(source, tmp_path, monkeypatch):
    monkeypatch.setattr("rope_deploy.bench.fresh_process.MEASURE", "tests.crashes:aborts")
    assert main(["ci", timed(tmp_path, source), "--update-baseline"]) == 0
    notes = json.loads((tmp_path / "out" / "report.json").read_text())["notes"]
    assert "Not measured with one thread in a fresh process: it ended by SIGABRT." in notes
    written = json.loads((tmp_path / "baseline.json").read_text())
    assert {one["processor_ratio"] for one in written["latencies"]} == {None}


def test_a_baseline_lies_in_no_artifact(source, tmp_path, capfd):
    config = Path(timed(tmp_path, source))
    config.write_text(config.read_text().replace("/baseline.json", "/out/onnx/baseline.json"))
    assert main(["ci", str(config), "--update-baseline"]) == 2
    assert "lies in an artifact of this run" in capfd.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_that_fails_does_not_become_a_baseline(source, tmp_path, capfd):
    assert main(["ci", timed(tmp_path, source, gates="max_nodes = 1"), "--update-baseline"]) == 1
    assert not (tmp_path / "baseline.json").exists()
    assert "left as it is" in " ".join(capfd.readouterr().out.split())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "There is no baseline"),
        ("{}", "not a report"),
        ('{"schema_version": 1}', "schema version 1"),
        pytest.param("machine", "another machine", marks=pytest.mark.sweep),
        pytest.param("workload", "has no ort", marks=pytest.mark.sweep),
    ],
)
def test_a_baseline_that_cannot_serve_exits_with_2_before_the_model_is_loaded(
    artifacts, source, tmp_path, capfd, content, says
):
    from dataclasses import replace

    from rope_deploy import api
    from rope_deploy.report.json_format import to_json

    if content in ("machine", "workload"):
        report = api.bench(artifacts, runtimes=("torch", "ort"), prompt=(4, 8), new=2, rounds=5)
        changes = {"machine": "Another"} if content == "machine" else {"latencies": report.latencies[:1]}
        content = to_json(replace(report, **changes))
    if content is not None:
        (tmp_path / "baseline.json").write_text(content)
    capfd.readouterr()
    assert main(["ci", timed(tmp_path, source)]) == 2
    printed = capfd.readouterr().err
    assert says in " ".join(printed.split()) and "--update-baseline" in printed
    assert "Loading" not in printed and "Traceback" not in printed and not (tmp_path / "out").exists()


def test_an_update_without_a_baseline_to_update_exits_with_2(source, tmp_path, capfd):
    assert main(["ci", str(write_config(tmp_path, source, "")), "--update-baseline"]) == 2
    assert "names none" in capfd.readouterr().err


def test_a_provider_that_is_not_installed_exits_with_3_before_the_model_is_loaded(source, tmp_path, capfd):
    config = write_config(tmp_path, source, 'provider = "CUDAExecutionProvider"')
    assert main(["ci", str(config)]) == 3
    assert "CUDAExecutionProvider" in capfd.readouterr().err and not (tmp_path / "out").exists()


def test_an_existing_output_is_refused_before_the_model_is_loaded(source, tmp_path, capfd):
    config = write_config(tmp_path, tmp_path / "no-such-model", "")
    (tmp_path / "out" / "tables").mkdir(parents=True)
    assert main(["ci", str(config)]) == 2
    assert "exists already" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"), [("title = 3\n[model]\nsauce = 'x'\n", "sauce"), ("not toml", "TOML"), (None, "no")]
)
def test_a_faulty_configuration_exits_with_2_and_names_the_fault(tmp_path, capfd, text, message):
    path = tmp_path / "run.toml"
    if text is not None:
        path.write_text(text)
    assert main(["ci", str(path)]) == 2
    error = capfd.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_prompts_for_a_model_without_a_tokenizer_are_refused_before_anything_is_written(tmp_path, capfd):
    model = tiny.build("llama")
    model.save_pretrained(tmp_path / "model")
    config = timed(tmp_path, tmp_path / "model", gates='[generate]\nprompts = ["One"]')
    assert main(["ci", config, "--update-baseline"]) == 2
    assert "has no tokenizer" in capfd.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "baseline.json").exists()


@pytest.mark.slow
def test_a_run_that_breaks_off_leaves_no_report_of_what_it_replaced(source, tmp_path, monkeypatch):
    config = timed(tmp_path, source)
    assert main(["ci", config, "--update-baseline"]) == 0
    (tmp_path / "out" / "notes.md").write_text("mine")

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(ci, "_check", interrupted)
    assert main(["ci", config, "--force"]) == 130
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["notes.md", "onnx", "tables"]


@pytest.mark.slow
def test_a_run_that_replaces_nothing_leaves_the_reports(source, tmp_path, monkeypatch):
    config = timed(tmp_path, source)
    assert main(["ci", config, "--update-baseline"]) == 0
    report = (tmp_path / "out" / "report.json").read_bytes()

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(ci, "export_styles", interrupted)
    assert main(["ci", config, "--force"]) == 130
    assert (tmp_path / "out" / "report.json").read_bytes() == report
