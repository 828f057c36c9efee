from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rope_deploy.errors import ConfigError
from rope_deploy.rope import LongRope, RopeSpec, specs_from_config

RULE = LongRope(short_factor=(1.0, 1.1, 1.2, 1.3), long_factor=(1.0, 2.0, 4.0, 8.0),
                original_max_position_embeddings=4096, factor=32.0)  # fmt: skip
SPEC = RopeSpec(8, 8, False, 1e4, RULE, 131072)


@settings(max_examples=100, deadline=None)
@given(
    data=st.data(), theta=st.floats(100, 1e7), half=st.sampled_from([4, 16, 32, 48]), partial=st.sampled_from([0.5, 1])
)
def test_frequencies_and_attention_scaling_equal_transformers(
    reference: Any, ulps: Any, slack: int, data: st.DataObject, theta: float, half: int, partial: float
) -> None:
    factors = st.lists(st.floats(0.5, 64), min_size=half, max_size=half)
    parameters = {
        "rope_type": "longrope",
        "rope_theta": theta,
        "partial_rotary_factor": partial,
        "short_factor": data.draw(factors),
        "long_factor": data.draw(factors),
        **data.draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "factor": st.one_of(st.none(), st.floats(0.5, 64)),
                    "attention_factor": st.one_of(st.none(), st.floats(0.5, 2)),
                    "original_max_position_embeddings": st.integers(128, 8192),
                },
            )
        ),
    }
    seq_len = data.draw(st.one_of(st.none(), st.integers(1, 10000)))
    config, inv_freq, attention = reference(parameters, head_dim=int(2 * half / partial), seq_len=seq_len)
    spec = specs_from_config(config)[""]
    assert ulps(spec.inv_freq(seq_len), inv_freq) <= slack
    assert spec.attention_scaling == attention


def test_the_long_set_starts_one_token_beyond_the_original_length() -> None:
    assert SPEC.depends_on_length
    assert SPEC.original_max_position == 4096
    np.testing.assert_array_equal(SPEC.inv_freq(4096), SPEC.inv_freq())
    np.testing.assert_allclose(SPEC.inv_freq() / SPEC.inv_freq(4097), [1.0, 2 / 1.1, 4 / 1.2, 8 / 1.3], rtol=1e-6)


def test_swapped_sets_are_seen(ulps: Any) -> None:
    swapped = dataclasses.replace(RULE, short_factor=RULE.long_factor, long_factor=RULE.short_factor)
    assert ulps(dataclasses.replace(SPEC, scaling=swapped).inv_freq(), SPEC.inv_freq()) > 1


def test_attention_scaling_follows_the_ratio_of_the_context_lengths_unless_stated() -> None:
    assert RULE.attention_scaling == pytest.approx(np.sqrt(1 + np.log(32) / np.log(4096)), rel=1e-15)
    assert dataclasses.replace(RULE, attention_factor=1.25).attention_scaling == 1.25
    assert dataclasses.replace(RULE, factor=1.0).attention_scaling == 1.0


def test_factors_of_the_wrong_number_are_all_reported() -> None:
    with pytest.raises(ConfigError) as error:
        dataclasses.replace(SPEC, scaling=dataclasses.replace(RULE, short_factor=(1.0,), long_factor=(0.0,) * 4))
    assert error.value.faults == (
        "short_factor must have 4 numbers, one a pair, not 1.",
        "long_factor must hold finite numbers above 0.",
    )
