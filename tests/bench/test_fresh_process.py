"""A fresh process measures the same contestants, and its failure is no failure of the run."""

from dataclasses import replace

import pytest

from rope_deploy.bench import Comparison, ContestantJob, measure_in_fresh_process, with_processor_ratios
from rope_deploy.results.records import LatencyRecord
from tests.runtimes.toy import write_toy


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("again")
    for style in ("onnx", "tables"):
        write_toy(folder / style, style)
    return tuple(ContestantJob("ort", str(folder / style), (4,), 2, threads=1) for style in ("tables", "onnx"))


def test_a_fresh_process_gives_the_ratios_that_are_wanted(jobs):
    found = {(one.style, one.workload): one for one in measure_in_fresh_process(Comparison(jobs, 5), pytest.fail)}
    assert set(found) == {(style, workload) for style in ("tables", "onnx") for workload in ("prefill 4", "decode @4")}
    other = found["onnx", "decode @4"]
    assert (other.reference, other.rounds, other.threads) == ("ort/tables", 5, 1)
    assert other.ratio_low <= other.ratio <= other.ratio_high
    assert other.processor_ratio_low <= other.processor_ratio <= other.processor_ratio_high
    assert 0 <= other.waiting < 1


@pytest.mark.slow
def test_a_process_that_fails_measures_nothing_and_says_why(jobs, monkeypatch):
    notes = []
    assert measure_in_fresh_process(Comparison((ContestantJob("ort", "nowhere", (4,), 2),), 5), notes.append) == ()
    assert measure_in_fresh_process(Comparison(jobs, 5), notes.append, patience=0.01) == ()
    monkeypatch.setattr("rope_deploy.bench.fresh_process.MEASURE", "tests.crashes:aborts")
    assert measure_in_fresh_process(Comparison(jobs, 5), notes.append) == ()
    assert notes == [
        "Not measured in a fresh process: nowhere is not an artifact: it has no rope_deploy.json.",
        "Not measured with one thread in a fresh process: it takes longer than 0 s.",
        "Not measured with one thread in a fresh process: it ended by SIGABRT.",
    ]


def test_ratios_of_wall_time_stay_where_those_of_processor_time_cannot_be_had(jobs, monkeypatch):
    notes, many = [], Comparison(tuple(replace(job, threads=2) for job in jobs), 5)
    records = (LatencyRecord("ort", "onnx", "prefill 4", 4, 5, 1.0, 1.0, 1.0, 0.5, 0.4, 0.6, "ort/tables"),)
    monkeypatch.setattr("rope_deploy.bench.fresh_process.MEASURE", "tests.crashes:aborts")
    assert with_processor_ratios(records, many, notes.append) == records
    assert notes == ["Not measured with one thread in a fresh process: it ended by SIGABRT."]


def test_a_fault_of_ours_is_no_note(jobs, monkeypatch):
    monkeypatch.setattr("rope_deploy.bench.fresh_process.MEASURE", "tests.crashes:raises")
    with pytest.raises(ValueError, match="a fault of ours"):
        measure_in_fresh_process(Comparison(jobs, 5), pytest.fail)


@pytest.mark.slow
def test_processor_times_are_those_of_one_thread_each(jobs):
    many = Comparison(tuple(replace(job, threads=2) for job in jobs), 5)
    before = measure_in_fresh_process(many, pytest.fail)
    assert all(one.processor_ratio is None for one in before)  # of two threads, one may have waited by spinning
    after = with_processor_ratios(before, many, pytest.fail)
    for old, new in zip(before, after, strict=True):
        assert 0 < new.processor_ratio_low <= new.processor_ratio <= new.processor_ratio_high
        assert replace(new, processor_ratio=None, processor_ratio_low=None, processor_ratio_high=None) == old


def test_what_cannot_be_given_one_thread_has_no_processor_times(jobs):
    reference, other = jobs
    compiled = Comparison((replace(reference, runtime="torch-compile"), other), 5)
    assert with_processor_ratios((), compiled, pytest.fail) == ()
    records = (LatencyRecord("ort", "onnx", "prefill 4", 4, 5, 1.0, 1.0, 1.0, 0.5, 0.4, 0.6, "torch-compile"),)
    assert with_processor_ratios(records, compiled, pytest.fail) == records
