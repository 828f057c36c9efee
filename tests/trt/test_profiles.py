from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rope_deploy.trt.profiles import Profile, Range, complete_profile, derived_profiles, profile_faults
from tests.trt.graphs import manifest


def profile(m, name):
    return {p.name: p for p in derived_profiles(m)}[name]


def test_a_graph_with_a_cache_gets_prefill_and_decode_from_an_empty_past_on():
    prefill, decode = derived_profiles(manifest(4096))
    assert (prefill.name, decode.name) == ("prefill", "decode")
    assert str(prefill.axes["sequence"]) == "1:128:2048"
    assert str(prefill.axes["past"]) == "0:0:2048"
    assert str(decode.axes["sequence"]) == "1:1:1"
    assert str(decode.axes["past"]) == "0:256:4095"


@pytest.mark.parametrize("task", ["decoder", "encoder"])
def test_a_graph_without_a_cache_gets_one_profile_over_the_whole_length(task):
    (only,) = derived_profiles(manifest(512, cache=False, task=task))
    assert {axis: str(size) for axis, size in only.axes.items()} == {"batch": "1:1:4", "sequence": "1:128:512"}


@given(st.integers(2, 300_000))
def test_derived_profiles_are_consistent_whatever_the_positions(max_position):
    m = manifest(max_position)
    assert [fault for p in derived_profiles(m) for fault in profile_faults(p, max_position)] == []


@given(st.integers(2, 10_000), st.sampled_from(["prefill", "decode", "all"]), st.data())
def test_defaults_fit_around_any_sequence_or_past_that_was_given(max_position, name, data):
    axis = data.draw(st.sampled_from(["sequence", "past"]))
    least = 1 if axis == "sequence" else 0
    sizes = sorted(data.draw(st.lists(st.integers(least, max_position - 1), min_size=3, max_size=3)))
    made = complete_profile(name, {axis: Range(*sizes)}, manifest(max_position))
    assert profile_faults(made, max_position) == []
    assert made.axes[axis] == Range(*sizes)


def test_a_total_beyond_the_default_reach_widens_the_past():
    made = complete_profile("decode", {"total": Range(1, 512, 131072)}, manifest(131072))
    assert str(made.axes["past"]) == "0:511:131071"
    assert profile_faults(made, 131072) == []


def test_shapes_join_past_and_sequence_to_the_mask_at_every_point():
    m = manifest(4096)
    for made in derived_profiles(m):
        shapes = made.shapes(m.inputs)
        for point in range(3):
            tokens, past = shapes["input_ids"][point][1], shapes["past_key_values.0.key"][point][2]
            assert shapes["attention_mask"][point][1] == tokens + past
            assert shapes["past_key_values.0.key"][point][1::2] == (2, 16)


@pytest.mark.parametrize("point", ["min", "opt", "max"])
def test_a_total_that_is_one_off_is_a_fault(point):
    good = profile(manifest(64), "prefill")
    total = replace(good.axes["total"], **{point: getattr(good.axes["total"], point) + 1})
    assert any("total" in f for f in profile_faults(Profile("prefill", {**good.axes, "total": total}), 1000))


@pytest.mark.parametrize(
    ("axis", "size"), [("batch", Range(0, 1, 4)), ("batch", Range(1, 5, 4)), ("past", Range(-1, 0, 4))]
)
def test_sizes_that_descend_or_start_too_low_are_faults(axis, size):
    good = profile(manifest(64), "prefill")
    assert any(axis in f for f in profile_faults(Profile("prefill", {**good.axes, axis: size}), 1000))


def test_more_tokens_than_positions_are_a_fault():
    (only,) = derived_profiles(manifest(512, cache=False))
    assert profile_faults(only, 512) == []
    assert "max_position 511" in profile_faults(only, 511)[0]


def test_a_profile_accepts_what_lies_within_and_nothing_else():
    m = manifest(64)
    decode = profile(m, "decode")
    inside = {"input_ids": (2, 1), "past_key_values.0.key": (2, 2, 0, 16)}
    assert decode.accepts(m.inputs, inside)
    assert not decode.accepts(m.inputs, {**inside, "input_ids": (2, 2)})
    assert not decode.accepts(m.inputs, {**inside, "past_key_values.0.key": (2, 2, 64, 16)})
    assert not decode.accepts(m.inputs, {**inside, "input_ids": (2, 1, 1)})
