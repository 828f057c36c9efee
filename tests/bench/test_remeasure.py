"""A fresh process measures the same contestants, and its failure is no failure of the run."""

from dataclasses import replace

import pytest

from rope_deploy.bench import Job, Rerun, measure_again, with_processor_ratios
from rope_deploy.results.records import LatencyRecord
from tests.runtimes.toy import write_toy


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    place = tmp_path_factory.mktemp("again")
    for style in ("onnx", "tables"):
        write_toy(place / style, style)
    return tuple(Job("ort", str(place / style), (4,), 2, threads=1) for style in ("tables", "onnx"))


def test_a_rerun_survives_being_written(jobs):
    assert Rerun.from_json(Rerun(jobs, 5).to_json()) == Rerun(jobs, 5)


def test_a_fresh_process_gives_the_ratios_that_are_wanted(jobs):
    found = {(one.style, one.workload): one for one in measure_again(Rerun(jobs, 5))}
    assert set(found) == {(style, workload) for style in ("tables", "onnx") for workload in ("prefill 4", "decode @4")}
    other = found["onnx", "decode @4"]
    assert (other.reference, other.rounds, other.threads) == ("ort/tables", 5, 1)
    assert other.ratio_low <= other.ratio <= other.ratio_high
    assert other.processor_ratio_low <= other.processor_ratio <= other.processor_ratio_high
    assert 0 <= other.waiting < 1


def test_a_process_that_fails_measures_nothing(jobs):
    assert measure_again(Rerun((Job("ort", "nowhere", (4,), 2),), 5)) == ()
    assert measure_again(Rerun(jobs, 5), module="no.such.module") == ()
    assert measure_again(Rerun(jobs, 5), patience=0.01) == ()


def test_processor_times_are_those_of_one_thread_each(jobs):
    many = Rerun(tuple(replace(job, threads=2) for job in jobs), 5)
    before = measure_again(many)
    assert all(one.processor_ratio is None for one in before)  # of two threads, one may have waited by spinning
    after = with_processor_ratios(before, many)
    for old, new in zip(before, after, strict=True):
        assert 0 < new.processor_ratio_low <= new.processor_ratio <= new.processor_ratio_high
        assert replace(new, processor_ratio=None, processor_ratio_low=None, processor_ratio_high=None) == old


def test_what_cannot_be_given_one_thread_has_no_processor_times(jobs):
    reference, other = jobs
    compiled = Rerun((replace(reference, runtime="torch-compile"), other), 5)
    assert with_processor_ratios((), compiled) == ()
    records = (LatencyRecord("ort", "onnx", "prefill 4", 4, 5, 1.0, 1.0, 1.0, 0.5, 0.4, 0.6, "torch-compile"),)
    assert with_processor_ratios(records, compiled) == records
