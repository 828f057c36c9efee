"""What holds of every rotation is found broken where no rule is known, and only where it is broken."""

from dataclasses import replace

import numpy as np
import pytest

from rope_deploy.parity import cases_for, check
from rope_deploy.runtimes import open_ort
from tests.parity.test_verdict import Mistaken, Tampered, by_case
from tests.runtimes.toy import ROWS, Faults, Twin, write_toy


def blind(manifest):
    return replace(manifest, rotations=(replace(manifest.rotations[0], spec={}),))


def judged(tmp_path, candidate, which="full"):
    return check(blind(write_toy(tmp_path / "toy")), None, candidate, which=which)


def broken(outcome):
    """Which invariants failed, e.g. {"origin", "norm"}."""
    return {
        record.worst.tensor.split(".")[0]
        for record in outcome.records
        if record.verdict == "failed" and record.worst is not None
    }


@pytest.mark.parametrize("which", ["quick", "full"])
@pytest.mark.parametrize("style", ["onnx", "tables"])
def test_an_honest_graph_breaks_none(tmp_path, style, which):
    manifest = blind(write_toy(tmp_path / "toy", style))
    with open_ort(tmp_path / "toy", threads=1, taps=True) as runtime:
        outcome = check(manifest, None, runtime, which=which)
    assert not outcome.failed and by_case(outcome)["coverage"].verdict == "passed"
    assert "judged by its invariants" in by_case(outcome)["coverage"].message


@pytest.mark.parametrize("faults", [Faults(shift=1), Faults(swap_heads=True)])
def test_a_token_that_turns_at_position_zero_is_found(tmp_path, faults):
    manifest = blind(write_toy(tmp_path / "toy", "tables", faults))
    with open_ort(tmp_path / "toy", threads=1, taps=True) as runtime:
        outcome = check(manifest, None, runtime, which="quick")
    found = next(one for one in outcome.diagnoses if one.code == "RD900")
    assert "origin" in found.explanation and found.layers == (0, 1)


def scaled(factor):
    """Rotated q and k `factor(positions)` times as long, in the cache too."""

    class Scaled(Twin):
        def rotate(self, x, positions):
            return super().rotate(x, positions) * factor(positions)[:, None, :, None]

    return Scaled()


def test_one_factor_everywhere_is_attention_scaling(tmp_path):
    for factor in (1.3, 0.8):
        assert not broken(judged(tmp_path, scaled(lambda p, f=factor: np.full(p.shape, f))))


@pytest.mark.parametrize("factor", [1.001, 0.999])
def test_a_length_that_changes_with_the_position_is_found(tmp_path, factor):
    candidate = scaled(lambda positions: np.where(positions > 3, factor, 1.0))
    assert "norm" in broken(judged(tmp_path, candidate, which="quick"))


def test_scores_that_depend_on_more_than_the_difference_are_found(tmp_path):
    """Every token is turned by an angle, none at position 0, and no length changes."""
    candidate = Mistaken(lambda positions, mask: positions * positions // 8)
    outcome = judged(tmp_path, candidate, which="quick")
    assert broken(outcome) == {"scores"}
    (found,) = outcome.diagnoses
    assert found.code == "RD900" and "scores.0" in found.explanation


def test_q_that_turns_and_k_that_does_not_are_found(tmp_path):
    class Half(Twin):
        def rotate(self, x, positions):
            return super().rotate(x, positions) if x.shape[1] == 4 else x

    assert "scores" in broken(judged(tmp_path, Half()))


def test_a_wrapping_table_is_found(tmp_path):
    candidate = Mistaken(lambda positions, mask: positions % (ROWS // 2 + 4))
    assert "scores" in broken(judged(tmp_path, candidate))


def test_a_value_that_is_no_number_is_found(tmp_path):
    def spoil(outputs, feeds):
        outputs["rotated.1.k"][:, :, -1] = np.nan

    outcome = judged(tmp_path, Tampered(Twin(), spoil))
    assert {r.worst.layer for r in outcome.records if r.verdict == "failed" and r.worst} == {1}


def test_another_theta_breaks_no_invariant_which_is_why_rules_are_wanted(tmp_path):
    assert not broken(judged(tmp_path, Twin(500.0)))


def test_the_quick_set_of_a_graph_without_rule_has_the_same_words_twice(tmp_path):
    manifest = write_toy(tmp_path / "toy")
    added = {c.id for c in cases_for(blind(manifest), "quick")} - {c.id for c in cases_for(manifest, "quick")}
    assert added == {"prefill", "offset-half"}
