"""`bench` times everything in one go; a baseline is compared by ratios."""

from dataclasses import replace

import pytest

from rope_deploy import api
from rope_deploy.errors import ConfigError, UsageError
from rope_deploy.report.records import LatencyRecord
from rope_deploy.runs.baseline import SLACK, against

QUICK = {"prompt": 8, "new": 2, "rounds": 2, "threads": 1}


def test_every_artifact_and_pytorch_are_timed_in_one_run(artifacts):
    report = api.bench(artifacts, runtimes=("torch", "ort"), **QUICK)
    labels = {(record.runtime, record.style) for record in report.latencies}
    assert labels == {("torch", "")} | {("ort", style) for style in ("tables", "onnx", "contrib", "plugin")}
    assert {record.workload for record in report.latencies} == {"prefill 8", "decode @8"}
    assert all(record.median_ms > 0 and record.ratio > 0 for record in report.latencies)


def test_baseline_gates_are_written_and_read_back(artifacts, tmp_path):
    first = api.bench(artifacts, **QUICK)
    api.write_report(first, tmp_path / "first.json")
    again = api.bench(artifacts, baseline=tmp_path / "first.json", **QUICK)
    assert len(again.gates) == 6  # three contestants besides the one ratios refer to, two workloads


def record(ratio: float, style: str = "onnx") -> LatencyRecord:
    return LatencyRecord("ort", style, "decode @8", 1, 3, 1.0, 1.0, 1.0, ratio)


def test_a_ratio_that_grew_by_less_than_the_slack_passes_and_by_more_fails():
    earlier = [record(2.0)]
    (fine,) = against([record(2.0 * SLACK * 0.99)], earlier)
    (slow,) = against([record(2.0 * SLACK * 1.01)], earlier)
    assert (fine.verdict, slow.verdict) == ("passed", "failed")


def test_runs_with_nothing_in_common_are_refused():
    with pytest.raises(UsageError, match="compared"):
        against([record(2.0)], [record(2.0, style="tables")])
    with pytest.raises(UsageError, match="compared"):
        against([replace(record(1.0), ratio=None)], [record(1.0)])


@pytest.mark.parametrize("content", [None, "not json", "{}"])
def test_a_baseline_that_is_none_is_refused_before_anything_is_timed(artifacts, tmp_path, content):
    path = tmp_path / "baseline.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises((UsageError, ConfigError), match=r"baseline|ratios"):
        api.bench(artifacts, baseline=path, **QUICK)
