from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rope_deploy.rope import DynamicNTK, RopeSpec, specs_from_config

SPEC = RopeSpec(64, 64, False, 1e4, DynamicNTK(factor=2.0, max_position_embeddings=1000), 1000)


@settings(max_examples=80, deadline=None)
@given(
    theta=st.floats(100, 1e7),
    factor=st.floats(1, 16),
    head_dim=st.sampled_from([16, 64, 128]),
    partial=st.sampled_from([0.5, 1.0]),
    max_position=st.integers(16, 8192),
    seq_len=st.one_of(st.none(), st.integers(1, 40000)),
)
def test_frequencies_equal_transformers(
    reference: Any,
    ulps: Any,
    slack: int,
    theta: float,
    factor: float,
    head_dim: int,
    partial: float,
    max_position: int,
    seq_len: int | None,
) -> None:
    parameters = {
        "rope_type": "dynamic",
        "rope_theta": theta,
        "factor": factor,
        "partial_rotary_factor": partial,
    }
    config, inv_freq, attention = reference(parameters, head_dim=head_dim, max_position=max_position, seq_len=seq_len)
    spec = specs_from_config(config)[""]
    assert ulps(spec.inv_freq(seq_len), inv_freq) <= slack
    assert spec.attention_scaling == attention


def test_nothing_changes_up_to_the_threshold_and_everything_but_the_first_pair_beyond() -> None:
    assert SPEC.depends_on_length
    assert SPEC.original_max_position == 1000
    short, at, beyond = SPEC.inv_freq(), SPEC.inv_freq(1000), SPEC.inv_freq(1001)
    np.testing.assert_array_equal(short, at)
    assert beyond[0] == short[0]
    assert (beyond[1:] < short[1:]).all()


def test_the_slowest_pair_slows_by_the_growth_of_the_sequence() -> None:
    """The rule's purpose: at length L the slowest frequency falls to factor·L/L₀ − (factor − 1), here 1/3."""
    ratio = SPEC.inv_freq(2000, np.float64)[-1] / SPEC.inv_freq(None, np.float64)[-1]
    np.testing.assert_allclose(ratio, 1 / 3, rtol=1e-12)
