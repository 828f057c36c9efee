"""A gate judges what was measured, and does not pass on what was not."""

import math
from dataclasses import replace

import pytest

from rope_deploy.report.gates import with_gates


@pytest.fixture
def bare(passing):
    return replace(passing, gates=())


@pytest.mark.parametrize(
    ("name", "holds", "breaks", "measured"),
    [
        ("max_logits_error", 3.1e-5, 3.0e-5, "3.1e-5 (tables · prefill)"),
        ("max_rotated_error", 4e-6, 3e-6, "4e-6 (tables · prefill)"),
        ("max_latency_ratio", 1.0, 0.99, "1.000× (prefill 128)"),
        ("max_artifact_bytes", 540_300_003, 540_300_002, "540\u202f300\u202f003 (plugin)"),
        ("max_runtime_cos_sin", 0, None, "0 (tables)"),
    ],
)
def test_a_gate_holds_at_its_limit_and_breaks_below(bare, name, holds, breaks, measured):
    (gate,) = with_gates(bare, **{name: holds}).gates
    assert (gate.name, gate.verdict, gate.measured) == (name, "passed", measured)
    if breaks is not None:
        judged = with_gates(bare, **{name: breaks})
        assert judged.gates[0].verdict == "failed"
        assert judged.verdict == "failed"


def test_a_cosine_left_in_one_graph_breaks_its_gate(bare):
    exports = (*bare.exports[:3], replace(bare.exports[3], runtime_cos_sin=1))
    assert with_gates(replace(bare, exports=exports), max_runtime_cos_sin=0).gates[0].verdict == "failed"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_break_a_gate(bare, value):
    checks = (bare.checks[0], replace(bare.checks[1], logits_error=value), *bare.checks[2:])
    (gate,) = with_gates(replace(bare, checks=checks), max_logits_error=1e3).gates
    assert gate.verdict == "failed" and "prefill-batch" in gate.measured


def test_an_error_just_over_its_limit_does_not_read_as_equal(bare):
    checks = (replace(bare.checks[0], rotated_error=1.002e-4), *bare.checks[1:])
    (gate,) = with_gates(replace(bare, checks=checks), max_rotated_error=1e-4).gates
    assert (gate.verdict, gate.measured, gate.limit) == ("failed", "1.002e-4 (tables · prefill)", "1e-4")


def test_what_was_not_measured_has_failed(empty):
    judged = with_gates(
        empty,
        max_logits_error=1,
        max_rotated_error=1,
        max_latency_ratio=1,
        max_artifact_bytes=1,
        max_runtime_cos_sin=0,
    )
    assert [(g.verdict, g.measured) for g in judged.gates] == [("failed", "nothing measured")] * 5


def test_what_was_not_asked_for_is_not_judged(bare):
    assert with_gates(bare).gates == ()
