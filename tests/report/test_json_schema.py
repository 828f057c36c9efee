"""The published schema is that of the records, and real reports keep to it."""

import json
import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from rope_deploy.report import json_schema
from rope_deploy.report.json_format import SCHEMA_VERSION, to_json
from rope_deploy.results.records import (
    ContestantRecord,
    DiagnosisRecord,
    ErrorMap,
    GraphRecord,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def published():
    return json.loads((ROOT / json_schema.FILE).read_text("utf-8"))


def closed(node):
    """The same schema, in which what it does not name is a fault: a record it forgot would be noticed."""
    if isinstance(node, list):
        return [closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {key: closed(one) for key, one in node.items()}
    return {**made, "additionalProperties": False} if isinstance(made.get("properties"), dict) else made


def faults(document, published):
    return [error.json_path for error in Draft202012Validator(closed(published)).iter_errors(document)]


@pytest.fixture
def full(failing):
    """Every kind of record, with figures that JSON has no number for."""
    return replace(
        failing,
        graphs=(GraphRecord("onnx", 5, 2, 2, {"x": 2}, 2, 2, 0, ("a",), "CPU", {"CPU": 5}),),
        diagnoses=(DiagnosisRecord("onnx", "ort", "RD301", "t", "w", "e", (0,), ("q",), ("prefill",), math.inf, 1.0),),
        maps=(ErrorMap("onnx", "ort", "q", (0,), (0, 1), ((math.nan, 2.0),)),),
        contestants=(ContestantRecord("torch", "", "passed", "", 5, 4, 3, None, "n"),),
        latencies=(replace(failing.latencies[0], median_ms=0.0), *failing.latencies[1:]),
    )


def test_the_published_file_is_the_generated_one():
    assert (ROOT / json_schema.FILE).read_text("utf-8") == json_schema.text(), (
        "run `python -m rope_deploy.report.json_schema`"
    )


def test_the_file_bears_the_version_of_the_reports(published):
    assert json_schema.FILE.name == f"report-{SCHEMA_VERSION}.json"
    assert published["properties"]["schema_version"] == {
        "const": SCHEMA_VERSION,
        "description": "Of this document's form; a reader checks it first.",
    }


def test_it_is_itself_a_valid_schema(published):
    Draft202012Validator.check_schema(published)


@pytest.mark.parametrize("which", ["passing", "failing", "empty", "nasty", "full"])
def test_reports_keep_to_it(which, request, published):
    assert faults(json.loads(to_json(request.getfixturevalue(which))), published) == []


def test_every_field_of_every_record_is_described(published):
    assert set(published["$defs"]["LatencyRecord"]["required"]) >= {"rotation_share", "tokens_per_second", "ratio_low"}
    for name, record in published["$defs"].items():
        assert record.get("description"), name
        assert name == "Number" or set(record["required"]) == set(record["properties"])


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda d: d.update(schema_version=SCHEMA_VERSION + 1), "$.schema_version"),
        (lambda d: d.update(verdict="maybe"), "$.verdict"),
        (lambda d: d.pop("machine"), "$"),
        (lambda d: d["checks"][0].update(verdict="maybe"), "$.checks[0].verdict"),
        (lambda d: d["checks"][0].update(seconds="long"), "$.checks[0].seconds"),
        (lambda d: d["latencies"][0].update(tokens="1"), "$.latencies[0].tokens"),
        (lambda d: d["maps"][0]["errors"][0].append(None), "$.maps[0].errors[0][2]"),
        (lambda d: d["gates"][0].update(limit=3), "$.gates[0].limit"),
        (lambda d: d["diagnoses"][0].pop("code"), "$.diagnoses[0]"),
        (lambda d: d["exports"][0].update(surplus=1), "$.exports[0]"),
    ],
)
def test_a_broken_report_does_not(full, published, change, path):
    document = json.loads(to_json(full))
    broken = deepcopy(document)
    change(broken)
    assert faults(document, published) == [] and faults(broken, published) == [path]


def test_the_script_writes_the_file_it_is_told_to(tmp_path, capsys):
    json_schema.main([str(tmp_path / "deep" / "s.json")])
    assert json.loads((tmp_path / "deep" / "s.json").read_text()) == json_schema.schema()
    assert "s.json" in capsys.readouterr().out
