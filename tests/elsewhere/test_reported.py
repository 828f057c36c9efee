"""Faults that other tools are publicly known for, planted into the bare rotation: each gets its name.

docs/diagnostics.md, "Reported elsewhere", lists them with their sources; a test of that table is beside this one.
"""

from dataclasses import replace
from functools import partial

import ml_dtypes
import numpy as np
import pytest

from faults.bare_rotation import (
    BIG,
    PARTIAL,
    PLAIN,
    ROWS,
    Call,
    Plant,
    diagnosed,
    other_rule,
    right,
    rounded,
    standing,
    within_prefix,
)
from rope_deploy.results.records import Report
from rope_deploy.rope import Default, DynamicNTK, LongRope, Proportional, RopeSpec, Yarn, cos_sin, rotate, tables


def named(spec: RopeSpec, does, **more) -> list[tuple[str, tuple[int, ...]]]:
    """Code and layers of each diagnosis; the sound twin must have none."""
    assert diagnosed(Plant(spec, lambda call: right(spec, call))) == ()
    return [(record.code, record.layers) for record in diagnosed(Plant(spec, does, **more))]


ALL = (0, 1, 2, 3)
SCALES = tuple(float(v) for v in np.linspace(1, 30, 16).round(2))
LONG = replace(PLAIN, scaling=LongRope((1.0,) * 16, SCALES, 1024, 4.0), rope_theta=10_000.0)


def test_angles_of_an_engine_in_bf16():
    spec = replace(PLAIN, rope_theta=10_000.0)
    assert named(spec, partial(rounded, spec, angle=ml_dtypes.bfloat16)) == [("RD501", ALL)]


def test_angles_in_bf16_are_sound_at_short_lengths_so_long_ones_must_be_tried():
    """The engine passed its validation, which was run where bf16 still tells positions apart."""
    spec = replace(PLAIN, rope_theta=10_000.0)

    def short(call: Call) -> np.ndarray:
        long = call.positions.max() > 64
        return rounded(spec, call, position=ml_dtypes.bfloat16) if long else right(spec, call)

    (record,) = diagnosed(Plant(spec, short))
    assert record.code == "RD501" and "prefill" not in record.cases and "last-positions" in record.cases


def test_a_rotation_left_in_fp32_is_sound_whatever_it_costs():
    """Results are better than they must be, so no check can object: a benchmark sees the time."""

    def in_fp64(call: Call) -> np.ndarray:
        return right(PLAIN, replace(call, x=call.x.astype(np.float64)))

    assert diagnosed(Plant(PLAIN, in_fp64)) == ()


def test_a_table_frozen_at_the_length_of_the_export():
    frozen = partial(standing, PLAIN, lambda call: np.minimum(call.positions, 511))
    assert named(PLAIN, frozen) == [("RD207", ALL)]


@pytest.mark.parametrize(("length", "words"), [(16, "short factors"), (2048, "long factors")])
def test_a_longrope_whose_other_branch_was_lost_in_tracing(length, words):
    (record,) = diagnosed(Plant(LONG, lambda call: right(LONG, call, length=length)))
    assert record.code == "RD307" and words in record.explanation


def test_a_longrope_whose_type_was_set_to_default():
    assert named(LONG, partial(other_rule, replace(LONG, scaling=Default()))) == [("RD302", ALL)]


def test_yarn_that_always_truncates():
    spec = replace(PLAIN, rope_theta=150_000.0, scaling=Yarn(32.0, 512, truncate=False))
    wrong = replace(spec, scaling=Yarn(32.0, 512))
    assert named(spec, partial(other_rule, wrong)) == [("RD305", ALL)]


def test_yarn_with_default_betas():
    spec = replace(PLAIN, scaling=Yarn(16.0, 1024, beta_fast=8, beta_slow=2))
    wrong = replace(spec, scaling=Yarn(16.0, 1024))
    assert named(spec, partial(other_rule, wrong)) == [("RD306", ALL)]


def test_yarn_that_ignores_mscale_where_it_makes_the_factor_one():
    spec = replace(PLAIN, scaling=Yarn(16.0, 1024, mscale=1.0, mscale_all_dim=1.0))
    assert spec.attention_scaling == 1.0
    wrong = replace(spec, scaling=Yarn(16.0, 1024))
    (record,) = diagnosed(Plant(spec, partial(other_rule, wrong)))
    assert record.code == "RD403" and "1.27726" in record.explanation


def test_yarn_without_its_factor():
    spec = replace(PLAIN, scaling=Yarn(16.0, 1024))
    wrong = replace(spec, scaling=Yarn(16.0, 1024, attention_factor=1.0))
    assert named(spec, partial(other_rule, wrong)) == [("RD401", ALL)]


def test_the_layers_without_rotation_taken_for_those_with_it():
    """The other half of the inversion, a layer that turns and must not, is RD110."""
    assert named(PLAIN, lambda call: call.x, layers=(0, 1, 2)) == [("RD106", (0, 1, 2))]


def test_positions_with_several_axes_are_never_flattened():
    spec = replace(PLAIN, mrope_section=(6, 5, 5))
    positions = np.arange(12).reshape(3, 1, 4) ** 2
    cos, _ = cos_sin(spec, positions)
    flattened, _ = cos_sin(PLAIN, positions[0])
    assert np.array_equal(cos[..., :6], flattened[..., :6])
    assert np.abs(cos[..., 6:] - flattened[..., 6:]).max() > 0.1


def test_a_graph_without_position_ids_counts_from_zero_in_every_step():
    """A single forward pass agrees; what shows it is a step after a cache."""
    counted = partial(standing, PLAIN, lambda c: np.arange(c.positions.shape[1]) if c.past else c.positions)
    (record,) = diagnosed(Plant(PLAIN, counted))
    assert (record.code, record.cases) == ("RD202", ("decode",))


def test_a_graph_without_position_ids_gives_a_padded_batch_the_columns():
    columns = partial(standing, PLAIN, lambda c: c.past + np.arange(c.positions.shape[1]))
    assert named(PLAIN, columns) == [("RD203", ALL)]


def test_a_graph_whose_positions_have_batch_one():
    assert named(PLAIN, partial(standing, PLAIN, lambda call: call.positions[:1])) == [("RD204", ALL)]


def test_a_proportional_rotation_paired_within_its_prefix():
    spec = replace(BIG, scaling=Proportional(0.25))
    assert named(spec, partial(within_prefix, spec)) == [("RD105", ALL)]


def test_a_fusion_that_ignores_interleaved():
    spec = replace(PLAIN, interleaved=True)
    assert named(spec, partial(other_rule, PLAIN)) == [("RD101", ALL)]


def test_a_fusion_that_ignores_the_partial_width():
    assert named(PARTIAL, partial(other_rule, replace(PARTIAL, rotary_dim=32))) == [("RD103", ALL)]


@pytest.mark.parametrize(("length", "words"), [(512, "nothing is scaled"), (ROWS, "at every length")])
def test_a_dynamic_ntk_that_stays_unscaled_or_became_static(length, words):
    spec = replace(PLAIN, scaling=DynamicNTK(4.0, 512))
    (record,) = diagnosed(Plant(spec, lambda call: right(spec, call, length=length)))
    assert record.code == "RD307" and words in record.explanation


def test_inv_freq_compressed_to_fp16():
    assert named(PLAIN, partial(rounded, PLAIN, frequency=np.float16)) == [("RD504", ALL)]


def test_a_complex_rotation_written_in_real_parts_is_judged_like_any_other():
    """torch's complex product of pairs is the interleaved rotation."""
    spec = replace(PLAIN, interleaved=True)

    def complex_product(call: Call, sign: int = 1) -> np.ndarray:
        angle = call.positions[..., None].astype(np.float32) * spec.inv_freq()
        turn = np.exp(sign * 1j * angle.astype(np.float64))[:, None]
        pairs = (call.x[..., 0::2] + 1j * call.x[..., 1::2]) * turn
        return np.stack([pairs.real, pairs.imag], axis=-1).reshape(call.x.shape).astype(np.float32)

    assert diagnosed(Plant(spec, complex_product)) == ()
    assert named(spec, partial(complex_product, sign=-1)) == [("RD102", ALL)]


def test_a_failure_of_accuracy_is_never_a_warning():
    records = diagnosed(Plant(PLAIN, partial(other_rule, BIG)))
    report = Report("t", "s", "2026-11-22", "m", {}, 0.0, diagnoses=records)
    assert report.verdict == "failed"
    assert Report("t", "s", "2026-11-22", "m", {}, 0.0).verdict != "failed"


def test_the_plain_rotation_here_is_the_one_that_is_exported():
    """The plants rest on `right`: the same tables and the same turn as the package's reference."""
    call = Call(np.ones((1, 1, 4, 32), np.float32), np.arange(4)[None], np.ones((1, 4), np.int64), "q")
    cos, sin = tables(PLAIN, 4)
    assert np.array_equal(right(PLAIN, call), rotate(call.x, cos, sin, interleaved=False))
