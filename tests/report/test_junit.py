"""JUnit as its readers count it: suites, cases, failures and skips, every one with a message."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from rope_deploy.report.junit import to_junit
from rope_deploy.results.records import ContestantRecord, DiagnosisRecord


def suites(report):
    root = ET.fromstring(to_junit(report))
    return root, {suite.get("name"): suite for suite in root}


@pytest.fixture
def diagnosed(failing):
    found = DiagnosisRecord(
        style="onnx",
        runtime="ort",
        code="RD202",
        title="Positions start again after the cache",
        where="q and k of layers 0–29",
        explanation="Every decode step is rotated as position 0.",
        cases=("decode",),
    )
    return replace(failing, diagnoses=(found,))


def test_a_suite_stands_for_each_style_and_runtime(passing):
    root, found = suites(passing)
    assert list(found) == ["tables.ort", "onnx.ort", "contrib.ort", "plugin.ort", "engines", "texts", "gates"]
    assert root.get("tests") == str(24 + 1 + 4 + 4) and root.get("failures") == "0" and root.get("skipped") == "1"


def test_planted_failures_are_counted_where_they_are(failing):
    root, found = suites(failing)
    counted = {name: int(suite.get("failures")) for name, suite in found.items()}
    assert counted == dict(zip(found, [0, 1, 0, 1, 1, 1, 1]))
    assert root.get("failures") == "5" == str(len(root.findall(".//failure")))


@pytest.mark.parametrize("which", ["passing", "failing", "diagnosed", "empty", "nasty"])
def test_the_counts_are_those_of_the_cases(which, request):
    root, found = suites(request.getfixturevalue(which))
    for node in (root, *found.values()):
        assert int(node.get("tests")) == len(list(node.iter("testcase")))
        assert int(node.get("failures")) == len(list(node.iter("failure")))
        assert int(node.get("skipped")) == len(list(node.iter("skipped")))


def test_failures_and_skips_say_why(failing):
    root, found = suites(failing)
    (failure,) = found["onnx.ort"].iter("failure")
    assert "position 17" in failure.get("message") and "rotated k, layer 3" in failure.text
    (skipped,) = found["contrib.ort"].iter("skipped")
    assert "left padding" in skipped.get("message")
    assert all(node.get("message") for node in (*root.iter("failure"), *root.iter("skipped")))


def test_the_message_is_the_first_line_and_the_text_has_them_all(failing):
    root, _ = suites(failing)
    for failure in root.iter("failure"):
        assert failure.text.splitlines()[0] == failure.get("message")


def test_the_first_line_of_a_failed_case_is_its_diagnosis(diagnosed):
    _, found = suites(diagnosed)
    first, *others = found["onnx.ort"].iter("testcase")
    assert first.get("name") == "RD202 Positions start again after the cache: q and k of layers 0–29"
    assert "--explain RD202" in first.find("failure").text and "It shows in: decode." in first.find("failure").text
    (decode,) = [case for case in others if case.find("failure") is not None]
    message = decode.find("failure").get("message")
    assert message.startswith("RD202 Positions start again after the cache: q and k of layers 0–29. Every decode step")
    assert "position 17" in decode.find("failure").text  # the figures follow


def test_a_diagnosis_is_not_said_of_a_case_or_a_style_that_does_not_show_it(diagnosed):
    moved = replace(diagnosed, diagnoses=(replace(diagnosed.diagnoses[0], cases=("prefill",)),))
    _, found = suites(moved)
    (failure,) = [f for case in list(found["onnx.ort"].iter("testcase"))[1:] for f in case.iter("failure")]
    assert not failure.get("message").startswith("RD202")
    assert "RD202" not in "".join(f.text for f in found["plugin.ort"].iter("failure"))


def test_a_diagnosis_without_any_check_is_a_failed_case_too(diagnosed):
    """As an audit of a file makes it."""
    _, found = suites(replace(diagnosed, checks=(), engines=(), gates=(), generations=()))
    assert list(found) == ["onnx.ort"] and found["onnx.ort"].get("failures") == "1"


def test_a_suite_knows_the_graph_and_the_times_of_its_style(passing):
    _, found = suites(passing)
    known = {p.get("name"): p.get("value") for p in found["onnx.ort"].iter("property")}
    assert known["style"] == "onnx" and known["opset"] == "23" and known["nodes"] == "1264"
    assert known["machine"] == passing.machine and known["prefill 128"] == "129 ms, 0.56×"


def test_who_was_left_out_of_a_benchmark_is_a_skipped_case(passing):
    left = ContestantRecord("torch-compile", "", "skipped", "No C++ compiler.")
    _, found = suites(replace(passing, contestants=(left, replace(left, runtime="torch", verdict="passed"))))
    (case,) = found["benchmark"].iter("testcase")
    assert case.get("name") == "torch.compile" and case.find("skipped").get("message") == "No C++ compiler."


def test_cases_have_names_of_their_own(passing):
    root, _ = suites(passing)
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(names)) == len(names)
    assert ("rope_deploy.tables.ort", "prefill (batch 1, 128 tokens)") in names


def test_hostile_characters_leave_well_formed_xml(nasty):
    root, _ = suites(nasty)
    assert any("<script>" in case.get("name") for case in root.iter("testcase"))


def test_the_time_is_iso_without_a_zone_or_absent(passing, empty):
    _, found = suites(passing)
    assert found["tables.ort"].get("timestamp") == "2026-11-22T10:15:00"
    assert "timestamp" not in to_junit(empty)
