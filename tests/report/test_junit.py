"""JUnit as its readers count it: suites, cases, failures and skips, every one with a message."""

import xml.etree.ElementTree as ET

import pytest

from rope_deploy.report.junit import to_junit


def suites(report):
    root = ET.fromstring(to_junit(report))
    return root, {suite.get("name"): suite for suite in root}


def test_a_suite_stands_for_each_style_and_runtime(passing):
    root, found = suites(passing)
    assert list(found) == ["tables.ort", "onnx.ort", "contrib.ort", "plugin.ort", "engines", "texts", "gates"]
    assert root.get("tests") == str(24 + 1 + 4 + 4) and root.get("failures") == "0" and root.get("skipped") == "1"


def test_planted_failures_are_counted_where_they_are(failing):
    root, found = suites(failing)
    counted = {name: int(suite.get("failures")) for name, suite in found.items()}
    assert counted == dict(zip(found, [0, 1, 0, 1, 1, 1, 1]))
    assert root.get("failures") == "5" == str(len(root.findall(".//failure")))


@pytest.mark.parametrize("which", ["passing", "failing", "empty", "nasty"])
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
