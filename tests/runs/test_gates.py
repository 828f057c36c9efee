"""A gate judges what was measured, and does not pass on what was not."""

import math
from dataclasses import replace

import pytest

from rope_deploy.results.records import GraphRecord, Report
from rope_deploy.runs.gates import with_gates
from tests.report.sample import sample


@pytest.fixture
def bare():
    """The sample report before any gate is judged."""
    return replace(sample(), gates=())


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


def test_what_was_not_measured_has_failed():
    judged = with_gates(
        Report("t", "s", "not a time", "m", {}, 0.0),
        max_logits_error=1,
        max_rotated_error=1,
        max_latency_ratio=1,
        max_artifact_bytes=1,
        max_runtime_cos_sin=0,
        max_nodes=1,
        all_rotations_converted=True,
        one_table_per_rotation=True,
        provider="CPUExecutionProvider",
    )
    assert [(g.verdict, g.measured) for g in judged.gates] == [("failed", "nothing measured")] * 9


def test_what_was_not_asked_for_is_not_judged(bare):
    assert with_gates(bare).gates == ()
    assert with_gates(bare, all_rotations_converted=False, one_table_per_rotation=False, provider=None).gates == ()


def graph(style="onnx", **changes):
    made = GraphRecord(style, 854, 60, 60, {"RotaryEmbedding (ONNX)": 60}, 2, 2, 0)
    return replace(made, **changes)


def judged(bare, *graphs, **limits):
    (gate,) = with_gates(replace(bare, graphs=graphs), **limits).gates
    return gate


def test_the_number_of_nodes_has_a_limit(bare):
    holds = judged(bare, graph(), graph("tables", nodes=900), max_nodes=900)
    breaks = judged(bare, graph(), graph("tables", nodes=901), max_nodes=900)
    assert (holds.verdict, holds.measured) == ("passed", "900 (tables)")
    assert (breaks.verdict, breaks.measured) == ("failed", "901 (tables)")


def test_cosines_are_counted_in_the_file_whatever_the_export_recorded(bare):
    assert judged(bare, graph(), max_runtime_cos_sin=0).verdict == "passed"
    assert judged(bare, graph(runtime_cos_sin=2), max_runtime_cos_sin=0).verdict == "failed"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rotations": 59, "forms": {"RotaryEmbedding (ONNX)": 59}}, "59 of 60"),
        ({"rotations": 61, "forms": {"RotaryEmbedding (ONNX)": 61}}, "61 of 60"),
        ({"forms": {"RotaryEmbedding (ONNX)": 60, "multiply-add": 1}}, "1 × multiply-add"),
        ({"rotations": 0, "expected": 0, "forms": {}}, "no rotation at all"),
        ({"unmatched": ("layers.3: a strange product",)}, "1 node left as it was (layers.3: a strange product)"),
    ],
)
def test_one_rotation_that_was_not_converted_breaks_its_gate(bare, changes, says):
    assert judged(bare, graph(), all_rotations_converted=True).verdict == "passed"
    broken = judged(bare, graph(), graph("plugin", **changes), all_rotations_converted=True)
    assert broken.verdict == "failed" and says in broken.measured and broken.measured.startswith("plugin: ")


@pytest.mark.parametrize("tables", [1, 4, 120])
def test_a_table_for_each_layer_or_one_too_few_breaks_its_gate(bare, tables):
    assert judged(bare, graph(), one_table_per_rotation=True).verdict == "passed"
    broken = judged(bare, graph(tables=tables), one_table_per_rotation=True)
    assert broken.verdict == "failed" and "where 2 are needed" in broken.measured


def test_one_node_on_another_provider_breaks_its_gate(bare):
    wanted = {"provider": "CUDAExecutionProvider"}
    here, there = {"CUDAExecutionProvider": 700}, {"CUDAExecutionProvider": 699, "CPUExecutionProvider": 1}
    assert judged(bare, graph(**wanted, providers=here), **wanted).verdict == "passed"
    broken = judged(bare, graph(**wanted, providers=there), **wanted)
    assert (broken.verdict, broken.measured) == ("failed", "onnx: of 700 nodes, 1 on CPUExecutionProvider")
    assert judged(bare, graph(**wanted), **wanted).verdict == "failed"
