"""SARIF says of each mistake what, where and how bad, in the structure that OASIS defines."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from rope_deploy.report import render
from rope_deploy.results.codes import CODES
from rope_deploy.results.records import DiagnosisRecord

# The part of the SARIF 2.1.0 schema that is written: {key: (type, required)}; nothing else may appear in an object.
TEXT = {"text": (str, True), "markdown": (str, False)}
RULE = {
    "id": (str, True),
    "name": (str, False),
    "shortDescription": (TEXT, False),
    "fullDescription": (TEXT, False),
    "help": (TEXT, False),
    "defaultConfiguration": ({"level": (str, False)}, False),
    "properties": (dict, False),
}
LOGICAL = {"name": (str, False), "fullyQualifiedName": (str, False), "kind": (str, False)}
LOCATION = {
    "physicalLocation": ({"artifactLocation": ({"uri": (str, False)}, False)}, False),
    "logicalLocations": ([LOGICAL], False),
}
RESULT = {
    "ruleId": (str, False),
    "ruleIndex": (int, False),
    "level": (str, False),
    "message": (TEXT, True),
    "locations": ([LOCATION], False),
    "partialFingerprints": (dict, False),
}
DRIVER = {"name": (str, True), "semanticVersion": (str, False), "rules": ([RULE], False)}
RUN = {
    "tool": ({"driver": (DRIVER, True)}, True),
    "automationDetails": ({"id": (str, False)}, False),
    "invocations": ([{"executionSuccessful": (bool, True), "startTimeUtc": (str, False)}], False),
    "results": ([RESULT], False),
    "columnKind": (str, False),
    "properties": (dict, False),
}
LOG = {"$schema": (str, False), "version": (str, True), "runs": ([RUN], True)}
LEVELS = {"none", "note", "warning", "error"}


def faults(value: Any, shape: Any, where: str = "$") -> list[str]:
    """What `value` has that the schema has not, or lacks."""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{where} is no array"]
        return [f for n, one in enumerate(value) for f in faults(one, shape[0], f"{where}[{n}]")]
    if not isinstance(shape, dict):
        return [] if isinstance(value, shape) else [f"{where} is {type(value).__name__}"]
    if not isinstance(value, dict):
        return [f"{where} is no object"]
    found = [f"{where}.{key} is unknown" for key in value.keys() - shape.keys()]
    found += [f"{where}.{key} is missing" for key, (_, required) in shape.items() if required and key not in value]
    return found + [
        f for key in value.keys() & shape.keys() for f in faults(value[key], shape[key][0], f"{where}.{key}")
    ]


def written(report) -> dict[str, Any]:
    return json.loads(render(report, "sarif"))


@pytest.mark.parametrize("which", ["passing", "failing", "empty", "nasty"])
def test_every_report_has_the_structure_of_the_standard(which, request):
    log = written(request.getfixturevalue(which))
    assert faults(log, LOG) == []
    assert log["version"] == "2.1.0" and urlsplit(log["$schema"]).scheme == "https"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in LEVELS and result["message"]["text"].strip()
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert uri and not urlsplit(uri).scheme and not uri.startswith("/") and " " not in uri
    for invocation in run["invocations"]:
        if "startTimeUtc" in invocation:
            datetime.strptime(invocation["startTimeUtc"], "%Y-%m-%dT%H:%M:%SZ")


def test_the_check_of_the_structure_finds_what_does_not_belong(failing):
    log = written(failing)
    del log["runs"][0]["results"][0]["message"]
    log["runs"][0]["tool"]["driver"]["rule"] = []
    assert sorted(faults(log, LOG)) == [
        "$.runs[0].results[0].message is missing",
        "$.runs[0].tool.driver.rule is unknown",
    ]


MISTAKE = DiagnosisRecord(
    style="model.onnx",
    runtime="file",
    code="RD301",
    title=CODES["RD301"],
    where="cos_cache, sin_cache",
    explanation="rope_theta is 10 000 instead of 500 000.",
    layers=(3, 7),
)


def test_a_mistake_names_its_file_table_and_layers(passing):
    report = replace(passing, source="models/a model/model.onnx", diagnoses=(MISTAKE,), notes=("RD605: 60 Cos run.",))
    run = written(report)["runs"][0]
    mistake, note = run["results"]
    assert (mistake["ruleId"], mistake["level"]) == ("RD301", "error")
    (location,) = mistake["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "models/a%20model/model.onnx"
    names = [(one["name"], one["kind"]) for one in location["logicalLocations"]]
    assert names == [("cos_cache, sin_cache", "resource"), ("layer 3", "module"), ("layer 7", "module")]
    assert (note["ruleId"], note["level"], note["message"]["text"]) == ("RD605", "note", "60 Cos run.")
    assert run["properties"]["verdict"] == "failed"


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_a_rule_with_its_page(code, passing):
    run = written(replace(passing, diagnoses=(replace(MISTAKE, code=code, title=CODES[code]),)))["runs"][0]
    (rule,) = [rule for rule in run["tool"]["driver"]["rules"] if rule["id"] == code]
    assert rule["shortDescription"]["text"] == CODES[code]
    assert f"docs/diagnostics.md#{code.lower()}" in rule["help"]["text"]
    assert "Fix" in rule["help"]["markdown"] and rule["properties"]["documentation"].endswith(code.lower())


def test_a_mistake_keeps_its_fingerprint_when_its_figures_change(passing):
    def prints(record):
        results = written(replace(passing, diagnoses=(record,)))["runs"][0]["results"]
        return [one["partialFingerprints"] for one in results]

    same = replace(MISTAKE, explanation="rope_theta is 9 999 instead of 500 000.", error=7.0)
    assert prints(MISTAKE) == prints(same)
    assert prints(MISTAKE) != prints(replace(MISTAKE, layers=(4,)))


def test_what_failed_without_a_name_is_not_lost(failing):
    unnamed = replace(failing, diagnoses=())
    rules = {result["ruleId"] for result in written(unnamed)["runs"][0]["results"]}
    assert {"check", "engine", "gate"} <= rules


def test_a_passing_report_has_no_results(passing):
    assert written(passing)["runs"][0]["results"] == []
