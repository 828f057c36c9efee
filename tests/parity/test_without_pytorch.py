"""Without PyTorch a check still finds every wrong rotation, by the oracle alone."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from rope_deploy.parity import check
from rope_deploy.runtimes import open_ort
from tests.parity.test_quick_set import MISTAKES
from tests.parity.test_run_cases import STYLES, Tampered, by_case
from tests.runtimes.toy import Faults, Twin, write_toy
from tests.sweep import swept


def alone(tmp_path, style="onnx", faults=None, tamper=None, only=(), **changes):
    manifest = write_toy(tmp_path / "toy", style, faults, **changes)
    with open_ort(tmp_path / "toy", threads=1, taps=True) as runtime:
        return check(manifest, None, Tampered(runtime, tamper or (lambda outputs, feeds: None)), only=only)


@pytest.mark.parametrize("style", STYLES)
def test_an_honest_graph_passes_and_says_what_was_not_compared(tmp_path, style):
    outcome = alone(tmp_path, style)
    assert not outcome.failed and outcome.diagnoses == ()
    assert "Without PyTorch" in by_case(outcome)["coverage"].message
    record = by_case(outcome)["decode"]
    assert record.logits_error == 0 and record.rotated_error is None and 0 < record.oracle_error < 1e-6


@pytest.mark.parametrize("style", STYLES)
def test_a_wrong_theta_in_one_layer_is_found_and_named(tmp_path, style):
    outcome = alone(tmp_path, style, Faults(theta={1: 9000.0}), only=["prefill", "decode"])
    assert by_case(outcome)["prefill"].verdict == "failed"
    assert {layer for found in outcome.diagnoses for layer in found.layers} == {1}


@pytest.mark.parametrize("mistake", swept(MISTAKES, list(MISTAKES)[:1]))
def test_every_kind_of_mistake_is_found(tmp_path, mistake):
    manifest = write_toy(tmp_path / "toy")
    tested = Tampered(MISTAKES[mistake], lambda *_: None)
    failed = [r.case for r in check(manifest, None, tested, which="quick").records if r.verdict == "failed"]
    assert any(not case.startswith("refuses") for case in failed)


def test_a_step_goes_on_from_the_cache_that_the_runtime_gave(tmp_path):
    kept = []

    def keep(outputs, feeds):
        kept.append((feeds["past_key_values.0.key"], outputs["present.0.key"]))

    assert not alone(tmp_path, tamper=keep, only=["decode"]).failed
    for (_, before), (after, _) in pairwise(kept):
        np.testing.assert_array_equal(before, after)


def test_results_that_are_no_numbers_fail_at_their_token(tmp_path):
    def spoil(outputs, feeds):
        outputs["logits"][0, 3, 5] = np.nan

    record = by_case(alone(tmp_path, tamper=spoil, only=["prefill"]))["prefill"]
    assert (record.verdict, record.worst.tensor, record.worst.position) == ("failed", "logits", 3)


def test_a_past_that_is_not_kept_fails(tmp_path):
    def forget(outputs, feeds):
        if feeds["past_key_values.1.value"].shape[2]:
            outputs["present.1.value"][:, :, 0] = 0

    records = by_case(alone(tmp_path, tamper=forget, only=["prefill", "decode"]))
    assert records["prefill"].verdict == "passed"
    assert records["decode"].verdict == "failed" and "value of layer 1" in records["decode"].message


@pytest.mark.parametrize("tensor", ["logits", "present.0.key"])
def test_a_missing_result_fails(tmp_path, tensor):
    outcome = alone(tmp_path, tamper=lambda outputs, feeds: outputs.pop(tensor) is None, only=["single-token"])
    assert "did not return it" in by_case(outcome)["single-token"].message


def test_refusals_are_tested_too(tmp_path):
    manifest = write_toy(tmp_path / "toy")
    records = by_case(check(manifest, None, Twin(), only=["refuses-beyond-table"]))
    assert records["refuses-beyond-table"].verdict == "failed"


def test_a_site_that_nothing_can_judge_is_not_called_compared(tmp_path):
    rotation = replace(write_toy(tmp_path / "toy", "contrib").rotations[0], spec={})
    outcome = alone(tmp_path, "contrib", rotations=(rotation,), only=["prefill"])
    coverage = by_case(outcome)["coverage"]
    assert (
        coverage.verdict == "skipped"
        and "Not observable" in coverage.message
        and "q of layers 0, 1" in coverage.message
    )
