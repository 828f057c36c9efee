"""What other exporters got wrong, each as a file that has the fault, and one that has not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from rope_deploy.rope import tables
from tests.audit.conftest import codes
from tests.audit.files import CONFIG, POSITIONS, Decoder, config, rule, spec_of, stored

YARN = rule("yarn", factor=4.0, original_max_position_embeddings=32)
DYNAMIC = rule("dynamic", factor=2.0)
SHORT, LONG = [1 + 0.05 * i for i in range(8)], [1 + 0.6 * i for i in range(8)]
LONGROPE = rule("longrope", short_factor=SHORT, long_factor=LONG, original_max_position_embeddings=32)
LLAMA3 = rule("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)


def of(stated, **scaling):
    """The tables of a configuration with other parameters of its rule."""
    spec = spec_of(stated)
    return tables(replace(spec, scaling=replace(spec.scaling, **scaling)), POSITIONS)


def test_angles_in_bfloat16(audited):
    assert codes(audited(Decoder(angle_type=TensorProto.BFLOAT16), CONFIG)) == {"RD501"}


def test_angles_in_float16(audited):
    assert codes(audited(Decoder(angle_type=TensorProto.FLOAT16), CONFIG)) == {"RD501"}


def test_frequencies_compressed_to_float16(audited):
    assert codes(audited(Decoder(frequency_type=TensorProto.FLOAT16), CONFIG)) == {"RD504"}


def test_a_table_in_float16_under_activations_in_float32(audited):
    rounded = tuple(table.astype(np.float16).astype(np.float32) for table in stored(CONFIG))
    assert codes(audited(Decoder(tables=rounded), CONFIG)) == {"RD503"}


def test_angles_through_a_matrix_product_are_a_hazard(audited):
    report = audited(Decoder(matmul=True), CONFIG)
    assert report.verdict == "passed"
    assert any(note.startswith("RD502: Angles go through") for note in report.notes)
    assert codes(audited(Decoder(matmul=True), CONFIG, fail_on=["RD502"])) == {"RD502"}


DROPPED = {"yarn": YARN, "llama3": LLAMA3, "linear": rule("linear", factor=4.0), "twice": rule("linear", factor=2.0)}


@pytest.mark.parametrize("stated", DROPPED.values(), ids=DROPPED)
def test_a_scaling_rule_that_was_dropped(stated, audited):
    assert audited(Decoder(tables=stored(stated)), stated).verdict == "passed"
    assert codes(audited(Decoder(tables=stored(CONFIG)), stated)) == {"RD302"}


def test_yarn_with_truncate_inverted(audited):
    assert codes(audited(Decoder(tables=of(YARN, truncate=False)), YARN)) == {"RD305"}


def test_yarn_with_other_betas(audited):
    assert codes(audited(Decoder(tables=of(YARN, beta_slow=2.0)), YARN)) == {"RD306"}


def test_yarn_without_its_attention_scaling(audited):
    assert codes(audited(Decoder(tables=of(YARN, attention_factor=1.0)), YARN)) == {"RD401"}


def test_yarn_with_its_attention_scaling_twice(audited):
    square = spec_of(YARN).attention_scaling ** 2
    assert codes(audited(Decoder(tables=of(YARN, attention_factor=square)), YARN)) == {"RD402"}


def test_another_factor(audited):
    stated = rule("linear", factor=4.0)
    (found,) = audited(Decoder(tables=of(stated, factor=3.0)), stated).diagnoses
    assert found.code == "RD304" and "3 instead of 4" in found.explanation


@pytest.mark.parametrize("length", [32, POSITIONS], ids=["short", "long"])
def test_longrope_that_lost_a_branch(length, audited):
    assert codes(audited(Decoder(tables=stored(LONGROPE, length=length)), LONGROPE)) <= {"RD307", "RD308"}
    assert audited(Decoder(tables=stored(LONGROPE, length=length)), LONGROPE).verdict == "failed"


def test_longrope_in_two_tables_passes_and_swapped_does_not(audited):
    assert audited(two_tables(32, POSITIONS), LONGROPE).verdict == "passed"
    assert codes(audited(two_tables(POSITIONS, 32), LONGROPE)) == {"RD308"}


def two_tables(before: int, beyond: int) -> Decoder:
    """One table after the other; the longest position of the call says which serves."""
    parts = [stored(LONGROPE, 32, length=before), stored(LONGROPE, POSITIONS, length=beyond)]
    both = tuple(np.concatenate(halves) for halves in zip(*parts, strict=True))

    def rows(to, positions):
        longest = to.op("ReduceMax", positions, keepdims=0)
        shift = to.op("Where", to.op("GreaterOrEqual", longest, to.constant(32)), to.constant(32), to.constant(0))
        return to.op("Add", positions, shift)

    return Decoder(tables=both, rows=rows)


@pytest.mark.parametrize(("then", "other", "verdict"), [(POSITIONS, 32, "passed"), (32, 32, "failed")])
def test_longrope_behind_an_if_is_read_both_ways(then, other, verdict, audited):
    """As onnxruntime-genai writes it: a branch for each table, chosen by the length."""

    def branches(to):
        longest = to.op("ReduceMax", "position_ids", keepdims=0)
        condition = to.op("GreaterOrEqual", longest, to.constant(32))
        graphs = []
        for length in (then, other):
            caches = [
                helper.make_node("Constant", [], [f"{name}_{len(graphs)}"], value=_tensor(table))
                for name, table in zip(("cos", "sin"), stored(LONGROPE, POSITIONS, length=length), strict=True)
            ]
            outs = [helper.make_empty_tensor_value_info(node.output[0]) for node in caches]
            graphs.append(helper.make_graph(caches, "branch", [], outs))
        cos, sin = to.op("If", condition, then_branch=graphs[0], else_branch=graphs[1], outputs=2, name="cache")
        return tuple(to.op("Gather", cache, "position_ids", axis=0) for cache in (cos, sin))

    report = audited(Decoder(extra=branches), LONGROPE)
    assert report.verdict == verdict
    assert any("2 ways through it" in note for note in report.notes)
    assert codes(report) <= {"RD307"}


def _tensor(array):
    from onnx import numpy_helper

    return numpy_helper.from_array(array)


def test_dynamic_ntk_frozen_or_unscaled(audited):
    """A table up to the stretched length, as if the call were as short, or as long, as can be."""
    for length in (POSITIONS, 2 * POSITIONS):
        report = audited(Decoder(tables=stored(DYNAMIC, 2 * POSITIONS, length=length)), DYNAMIC)
        assert codes(report) == {"RD307"}, length


def test_dynamic_ntk_that_ends_where_the_rule_begins(audited):
    assert codes(audited(Decoder(tables=stored(DYNAMIC)), DYNAMIC)) == {"RD207"}


def test_a_table_frozen_at_the_length_of_the_export(audited):
    """Constant folding left cos and sin of the example's tokens: nothing depends on positions any more."""

    def frozen(to):
        cos, sin = stored(CONFIG, 24)
        return tuple(to.constant(table[None], name) for table, name in ((cos, "cos_24"), (sin, "sin_24")))

    assert codes(audited(Decoder(extra=frozen), CONFIG)) == {"RD203", "RD207"}


def test_layers_without_rotation_inverted(audited):
    stated = config(model_type="smollm3", num_hidden_layers=4, no_rope_layers=[1, 1, 1, 0])
    right = Decoder(tables=stored(CONFIG), count=4, layers=(0, 1, 2))
    assert audited(right, stated).verdict == "passed"
    report = audited(replace(right, layers=(3,)), stated)
    assert {(one.code, one.layers) for one in report.diagnoses} == {("RD106", (0, 1, 2)), ("RD110", (3,))}
    assert any("inverted" in one.explanation for one in report.diagnoses)


def test_missing_position_ids_that_decode_from_zero(audited):
    restarting = Decoder(tables=stored(CONFIG), positions="counted", cached=True)
    assert codes(audited(restarting, CONFIG)) == {"RD604"}
    counting = audited(replace(restarting, positions="from the past"), CONFIG)
    assert counting.verdict == "passed"
    assert any(note.startswith("RD604") for note in counting.notes)


def test_the_rule_of_other_layers(audited):
    stated = {
        **CONFIG,
        "model_type": "gemma3_text",
        "head_dim": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0},
        },
    }
    (found,) = audited(Decoder(tables=stored(CONFIG)), stated).diagnoses
    assert found.code == "RD109" and found.layers == (1,)


def test_mrope_flattened_is_a_hazard(audited):
    stated = config(
        model_type="qwen2_vl_text",
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
    )
    report = audited(Decoder(tables=stored(CONFIG)), stated)
    assert report.verdict == "passed"
    assert any(note.startswith("RD210") for note in report.notes)
