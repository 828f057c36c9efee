from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rope_deploy.errors import ConfigError, UsageError
from rope_deploy.rope import (
    Default,
    DynamicNTK,
    Linear,
    Llama3,
    LongRope,
    Proportional,
    RopeSpec,
    Scaling,
    Yarn,
)

NUMBERS = st.floats(1, 100)
COUNTS = st.integers(2, 100_000)
SECTIONS = st.lists(st.integers(1, 64), min_size=3, max_size=4).map(tuple)


def _rules(half: int) -> st.SearchStrategy[Scaling]:
    per_pair = st.lists(NUMBERS, min_size=half, max_size=half).map(tuple)
    return st.one_of(
        st.just(Default()),
        st.builds(Linear, NUMBERS),
        st.builds(DynamicNTK, NUMBERS, COUNTS),
        st.builds(Yarn, NUMBERS, COUNTS, st.none() | NUMBERS, NUMBERS, NUMBERS, truncate=st.booleans()),
        st.builds(LongRope, per_pair, per_pair, COUNTS, NUMBERS),
        st.builds(Llama3, NUMBERS, st.just(1), st.floats(2, 9), COUNTS),
        st.builds(Proportional, st.floats(0, 1), NUMBERS),
    )


@st.composite
def specs(draw: Any) -> RopeSpec:
    half = draw(st.integers(2, 32))
    return RopeSpec(
        head_dim=2 * half + draw(st.integers(0, 9)),
        rotary_dim=2 * half,
        interleaved=draw(st.booleans()),
        rope_theta=draw(st.floats(1.5, 1e8) | st.integers(2, 10**8)),
        scaling=draw(_rules(half)),
        max_position=draw(COUNTS),
        reversed=draw(st.booleans()),
        mrope_section=draw(st.just(()) | SECTIONS),
    )


VALID = RopeSpec(16, 8, True, 1e4, Yarn(4.0, 128), 512).to_dict()


@settings(max_examples=200, deadline=None)
@given(spec=specs())
def test_a_spec_survives_json(spec: RopeSpec) -> None:
    again = RopeSpec.from_dict(json.loads(json.dumps(spec.to_dict(), allow_nan=False)))
    assert again == spec
    np.testing.assert_array_equal(again.inv_freq(), spec.inv_freq())


@settings(max_examples=100, deadline=None)
@given(spec=specs(), dtype=st.sampled_from([np.float32, np.float64]), seq_len=st.none() | COUNTS)
def test_there_is_a_finite_frequency_for_every_pair(spec: RopeSpec, dtype: type, seq_len: int | None) -> None:
    inv_freq = spec.inv_freq(seq_len, dtype)
    assert inv_freq.dtype == dtype
    assert inv_freq.shape == (spec.rotary_dim // 2,)
    assert np.isfinite(inv_freq).all()


@settings(max_examples=50, deadline=None)
@given(spec=specs(), a=COUNTS, b=COUNTS)
def test_only_rules_that_say_so_depend_on_the_length(spec: RopeSpec, a: int, b: int) -> None:
    if not spec.depends_on_length:
        np.testing.assert_array_equal(spec.inv_freq(a), spec.inv_freq(b))


def test_the_size_of_a_table_does_not_change_the_frequencies() -> None:
    spec = RopeSpec(8, 8, False, 1e4, DynamicNTK(2.0, 128), 128)
    np.testing.assert_array_equal(dataclasses.replace(spec, max_position=4096).inv_freq(256), spec.inv_freq(256))


def test_keys_are_spelled_as_hugging_face_spells_them() -> None:
    assert VALID["rope_parameters"] == {
        "rope_type": "yarn",
        "rope_theta": 1e4,
        "factor": 4.0,
        "original_max_position_embeddings": 128,
        "beta_fast": 32,
        "beta_slow": 1,
        "truncate": True,
    }


def test_all_faults_are_listed_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        RopeSpec.from_dict(
            {
                "head_dim": "16",
                "rotary_dim": 7,
                "interleaved": "yes",
                "colour": 1,
                "rope_parameters": {"rope_type": "yarn", "rope_theta": True, "truncate": 1, "speed": 2},
            }
        )
    text = str(error.value)
    for expected in (
        "colour is not a key",
        "speed is not a key of yarn",
        "head_dim must be a whole number above 0, not '16'",
        "max_position must be a whole number above 0, not None",
        "rope_theta must be a finite number above 1, not True",
        "interleaved must be true or false",
        "factor is missing",
        "original_max_position_embeddings is missing",
        "truncate must be true or false, not 1",
    ):
        assert expected in text
    assert len(error.value.faults) == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rotary_dim": 7}, "must be even"),
        ({"rotary_dim": 18}, "wider than the head"),
        ({"rotary_dim": 0}, "rotary_dim must be a whole number above 0"),
        ({"max_position": -1}, "max_position must be"),
        ({"mrope_section": "abc"}, "mrope_section must be a list of counts"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RopeSpec.from_dict({**VALID, **change})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "4", [4]])
def test_what_is_no_number_is_no_factor(value: object) -> None:
    with pytest.raises(ConfigError, match="factor must be a finite number"):
        RopeSpec.from_dict({**VALID, "rope_parameters": {**VALID["rope_parameters"], "factor": value}})


def test_a_spec_built_by_hand_is_checked_as_well() -> None:
    with pytest.raises(ConfigError, match="factor must be a finite number above 0, not -1"):
        RopeSpec(8, 8, False, 1e4, Linear(-1), 128)


@pytest.mark.parametrize("rope_type", ["sphere", "axial", None, 3])
def test_an_unknown_rule_is_named_with_those_that_are_known(rope_type: object) -> None:
    with pytest.raises(UsageError) as error:
        RopeSpec.from_dict({**VALID, "rope_parameters": {"rope_type": rope_type}})
    assert repr(rope_type) in str(error.value)
    assert "default, linear, dynamic, yarn, longrope, llama3, proportional" in str(error.value)


def test_positions_of_several_axes_are_said_so() -> None:
    spec = RopeSpec.from_dict({**VALID, "mrope_section": [1, 1, 2]})
    assert spec.positions == "M-RoPE"
    assert RopeSpec.from_dict(VALID).positions == "1-D"


def test_the_axis_of_each_pair_may_be_named() -> None:
    plain = RopeSpec(32, 32, False, 1e4, Default(), 64)
    named = dataclasses.replace(plain, mrope_section=(1, 1, 1), mrope_axes=(2, 1) * (plain.rotary_dim // 4))
    assert named.axes.tolist() == list(named.mrope_axes)
    assert RopeSpec.from_dict(named.to_dict()) == named
    for axes, said in (((2, 1), "each of"), ((3,) * (plain.rotary_dim // 2), "names axis 3")):
        with pytest.raises(ConfigError, match=said):
            dataclasses.replace(plain, mrope_section=(1, 1, 1), mrope_axes=axes)
