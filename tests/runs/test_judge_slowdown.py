"""Load of other processes neither fails a sound artifact nor hides a slow one."""

from dataclasses import replace

import pytest

from rope_deploy.results.records import LatencyRecord
from rope_deploy.runs.judge_slowdown import QUIET, is_settled, judge_ratio

LIMIT = 1.25


def measured(slower=1.0, *, computed=1.0, spread=0.02, waiting=0.0):
    """`slower` than the baseline in wall time, `computed` in processor time; both around 0.5 of the reference."""
    wall, own = 0.5 * slower, 0.6 * computed
    return LatencyRecord(
        "ort", "onnx", "decode @8", 1, 9, 1.0, 0.9, 1.1, wall, wall * (1 - spread), wall * (1 + spread), "torch",
        processor_ratio=own, processor_ratio_low=own * 0.99, processor_ratio_high=own * 1.01, waiting=waiting,
    )  # fmt: skip


BEFORE, LOUD = measured(), QUIET * 3


def verdict(*runs, before=BEFORE, unsettled="pass"):
    gate = judge_ratio("gate", runs, before, LIMIT, unsettled)
    return gate.verdict, gate.measured


@pytest.mark.parametrize(
    ("runs", "expected", "says"),
    [
        ([measured(1.1)], "passed", "1.10×"),
        ([measured(1.4)], "failed", "1.40×"),
        ([measured(1.4), measured(1.3)], "failed", "1.30× (1.26 to 1.34) in 2 measurements"),
        ([measured(1.4), measured(1.05)], "passed", "1.05×"),
        ([measured(1.4), measured(1.26)], "skipped", "unsettled: 1.26×"),
        # Noise may explain the wall times, and does not explain the processor times.
        ([measured(1.4, spread=0.2, computed=1.3)] * 3, "failed", "1.30× (1.28 to 1.32) of processor time in 3"),
        ([measured(1.4, spread=0.2), measured(1.2, computed=1.3)], "passed", "1.20×"),
        # Load, and nothing wrong: what became slower is the wall clock alone.
        ([measured(1.5, waiting=LOUD)] * 3, "skipped", "unsettled: 1.50×"),
        ([measured(1.1, waiting=LOUD)], "passed", "1.00× (0.99 to 1.01) of processor time; others kept it"),
        ([measured(1.5, waiting=LOUD), measured(1.1, waiting=LOUD)], "passed", "of processor time"),
        # Load that makes an artifact look fast although it computes 1.4 times as much, or perhaps as much.
        ([measured(0.7, computed=1.4, waiting=LOUD)] * 3, "failed", "1.40× (1.38 to 1.42) of processor time"),
        ([measured(0.7, computed=1.26, waiting=LOUD)] * 3, "skipped", "unsettled: 0.70×"),
        ([measured(0.7, computed=1.4, waiting=LOUD), measured(1.4)], "failed", "1.40×"),
        (
            [measured(1.5, waiting=LOUD)] * 3,
            "skipped",
            "24% of its time in 3 measurements; its processor time is 1.00×",
        ),
        # The same load on an artifact that computes 1.3 times as much.
        ([measured(1.9, computed=1.3, waiting=LOUD)] * 3, "failed", "1.30× (1.28 to 1.32) of processor time"),
        (
            [measured(1.9, computed=1.3, waiting=LOUD), measured(1.9, computed=1.0, waiting=LOUD)],
            "skipped",
            "unsettled",
        ),
        # One quiet measurement is worth more than two that were not.
        ([measured(1.5, waiting=LOUD), measured(1.02)], "passed", "first 1.50×"),
        ([measured(1.5, waiting=LOUD), measured(1.4)], "failed", "1.40×"),
        ([measured(1.5, waiting=None)], "failed", "1.50×"),
    ],
)
def test_the_verdict_follows_from_all_measurements(runs, expected, says):
    found, message = verdict(*runs)
    assert found == expected
    assert says in message


def test_an_unsettled_ratio_fails_where_that_is_wanted():
    assert verdict(measured(1.5, waiting=LOUD), unsettled="fail")[0] == "failed"
    assert verdict(measured(1.1), unsettled="fail")[0] == "passed"


@pytest.mark.parametrize("slower", [0.7, 1.9])
def test_without_processor_times_load_leaves_it_unsettled(slower):
    old = replace(BEFORE, processor_ratio=None)
    found, message = verdict(measured(slower, computed=1.3, waiting=LOUD), before=old)
    assert found == "skipped" and "processor time is not known" in message


def test_wall_times_do_not_count_against_a_baseline_that_was_made_under_load():
    found, message = verdict(measured(1.9), before=measured(waiting=LOUD))
    assert found == "skipped" and "24% of its time when the baseline was made" in message
    assert verdict(measured(1.0, computed=1.4), before=measured(waiting=LOUD))[0] == "failed"
    assert verdict(measured(1.0), before=measured(waiting=LOUD))[0] == "passed"


def test_measuring_ends_where_a_further_one_would_change_nothing():
    assert is_settled([measured(1.1)], BEFORE, LIMIT)
    assert is_settled([measured(1.4), measured(1.1, waiting=LOUD)], BEFORE, LIMIT)
    assert not is_settled([measured(1.4)], BEFORE, LIMIT)
    assert not is_settled([measured(0.7, computed=1.4, waiting=LOUD)], BEFORE, LIMIT)
    assert not is_settled([replace(measured(0.7, waiting=LOUD), processor_ratio=None)], BEFORE, LIMIT)
