"""What is written is read back the same; what was not written by us is refused with its faults."""

import json
import math
from dataclasses import replace

import pytest

from rope_deploy.errors import ConfigError
from rope_deploy.report.json_format import from_json, to_json


@pytest.mark.parametrize("which", ["passing", "failing", "empty"])
def test_a_report_survives_the_round_trip(which, request):
    report = request.getfixturevalue(which)
    assert from_json(to_json(report)) == report
    assert from_json(to_json(report).encode()) == report


def test_the_document_states_schema_and_verdict(failing):
    document = json.loads(to_json(failing))
    assert list(document)[:2] == ["schema_version", "verdict"]
    assert document["schema_version"] == 3 and document["verdict"] == "failed"


def test_the_verdict_is_computed_and_cannot_be_forged(failing):
    assert from_json(to_json(failing).replace('"verdict": "failed",', '"verdict": "passed",', 1)).verdict == "failed"


def test_nan_and_infinity_survive_as_standard_json(passing):
    strange = (math.nan, math.inf, -math.inf)
    curve = replace(passing.curves[0], positions=(0, 1, 2), errors=strange)
    text = to_json(replace(passing, curves=(curve,)))
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert repr(from_json(text).curves[0].errors) == repr(strange)


def test_hostile_characters_survive_except_what_cannot_be_encoded(nasty):
    back = from_json(to_json(nasty))
    assert back.title == nasty.title.replace("\ud800", "?")


def test_a_field_of_a_later_release_is_ignored(passing):
    document = json.loads(to_json(passing)) | {"later": 1}
    assert from_json(json.dumps(document)) == passing


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a report"),
        ("3", "not a report"),
        ('{"a": 1}', "no schema_version"),
        ('{"schema_version": 2}', "schema version 2"),
        (b"\xff\xfe\x00", "not valid JSON"),
    ],
)
def test_what_is_no_report_is_refused(text, says):
    with pytest.raises(ConfigError, match=says) as caught:
        from_json(text, name="base.json")
    assert str(caught.value).startswith("base.json")


def test_every_fault_of_a_broken_report_is_listed(passing):
    document = json.loads(to_json(passing))
    document["checks"][0]["verdict"] = "maybe"
    del document["machine"]
    with pytest.raises(ConfigError) as caught:
        from_json(json.dumps(document))
    assert len(caught.value.faults) == 2
    assert any(fault.startswith("checks.0.verdict") for fault in caught.value.faults)
