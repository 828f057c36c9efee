"""Our own artifacts: audited against their manifest and their config.json, alone and as the first part of a check."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from faults.wrong_artifacts import with_other_sine
from rope_deploy import api
from rope_deploy.errors import ConfigError
from tests import tiny
from tests.audit.conftest import codes
from tests.sweep import swept

STYLES = ("tables", "onnx", "contrib", "plugin")
# Two rules, LongRoPE in two tables, layers without rotation, a partial interleaved one, positions that are counted.
FAMILIES = ("gemma3", "phi3", "cohere2", "gptj", "modernbert")


@pytest.fixture(scope="module", params=swept(FAMILIES, ["modernbert"]))
def exported(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "all"
    api.export(tiny.loaded(request.param), folder, styles=STYLES)
    return folder


def test_every_style_of_every_family_passes(exported):
    report = api.audit(exported)
    assert report.verdict == "passed" and not report.diagnoses
    assert {check.style for check in report.checks} == set(STYLES)
    assert {check.runtime for check in report.checks} == {"file"}
    for style in STYLES:
        cases = [check.case for check in report.checks if check.style == style]
        assert any(case.startswith("config.json: table") for case in cases)
        assert any(case.startswith("table") for case in cases)


@pytest.mark.parametrize("style", STYLES)
def test_a_row_that_no_case_visits_is_found(style, exported, tmp_path):
    def changed(sine):
        sine[61, 1] += 0.05
        return sine

    report = api.audit(with_other_sine(exported / style, tmp_path / "changed", changed), ignore_hashes=True)
    assert report.verdict == "failed"
    failed = [check for check in report.checks if check.verdict == "failed"]
    assert failed and all(check.worst.position in (61, 61 - 32) for check in failed)


def test_changed_files_are_said_first(exported, tmp_path):
    broken = with_other_sine(exported / "onnx", tmp_path / "changed", lambda sine: -sine)
    report = api.audit(broken)
    assert [one.code for one in report.diagnoses][:2] == ["RD606", "RD102"]


def test_another_configuration_can_be_held_against_it(exported, tmp_path):
    stated = json.loads((exported / "onnx" / "config.json").read_text())
    assert api.audit(exported / "onnx", against=exported / "onnx").verdict == "passed"
    for parameters in _rules(stated):
        parameters["rope_theta"] = 77_000.0
    (tmp_path / "config.json").write_text(json.dumps(stated))
    assert "RD301" in codes(api.audit(exported / "onnx", against=tmp_path))


def _rules(stated: dict) -> list[dict]:
    if "rope_parameters" not in stated:  # GPT-J's configuration
        return [stated]
    nested = [value for value in stated["rope_parameters"].values() if isinstance(value, dict)]
    return nested or [stated["rope_parameters"]]


@pytest.mark.slow
def test_an_ordinary_check_finds_a_row_that_no_case_visits(tmp_path):
    api.export(tiny.loaded("qwen2"), tmp_path / "right")

    def changed(sine):
        sine[61, 1] += 0.05
        return sine

    broken = with_other_sine(tmp_path / "right", tmp_path / "broken", changed)
    shutil.rmtree(tmp_path / "right")
    model = tiny.loaded("qwen2")
    report = api.check(broken, model=model, quick=True, ignore_hashes=True)
    tables = [check for check in report.checks if check.runtime == "file" and check.verdict == "failed"]
    assert tables and all(check.worst.position == 61 for check in tables)
    assert np.isclose(tables[0].worst.error, 0.05, rtol=1e-2)


def _edited(artifact: Path, target: Path, **values: object) -> Path:
    shutil.copytree(artifact, target)
    (target / "config.json").unlink()
    path = target / "rope_deploy.json"
    manifest = json.loads(path.read_text()) | values
    manifest["files"].pop("config.json")
    path.write_text(json.dumps(manifest))
    return target


def test_without_any_rule_it_says_what_it_went_by(exported, tmp_path):
    artifact = exported / "tables"
    rotations = json.loads((artifact / "rope_deploy.json").read_text())["rotations"]
    ruleless = _edited(artifact, tmp_path / "a", rotations=[{**one, "spec": {}} for one in rotations])
    report = api.audit(ruleless)
    assert report.verdict == "passed" and any("no rule is stated" in note for note in report.notes)
    assert not any("no rule is stated" in note for note in api.audit(artifact).notes)


def test_a_manifest_that_lists_no_rotation_of_a_graph_that_rotates_is_not_true(exported, tmp_path):
    emptied = _edited(exported / "tables", tmp_path / "a", rotations=[], sites=[])
    report = api.audit(emptied)
    assert report.verdict == "failed" and codes(report) == {"RD607"}


def test_a_graph_that_takes_text_of_any_length_is_no_tower(exported, tmp_path):
    called = _edited(exported / "tables", tmp_path / "a", task="tower")
    with pytest.raises(ConfigError, match="texts of any length"):
        api.audit(called)
    inputs = json.loads((called / "rope_deploy.json").read_text())["inputs"]
    fixed = [{**one, "shape": [7 if size == "sequence" else size for size in one["shape"]]} for one in inputs]
    report = api.audit(_edited(exported / "tables", tmp_path / "b", task="tower", inputs=fixed))
    assert report.verdict == "failed" and "RD607" in codes(report)
