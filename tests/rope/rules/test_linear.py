from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rope_deploy.rope import Default, Linear, RopeSpec, specs_from_config


@settings(max_examples=60, deadline=None)
@given(
    theta=st.floats(100, 1e7),
    factor=st.one_of(st.integers(1, 64), st.floats(1, 64)),
    head_dim=st.sampled_from([32, 64, 96, 128]),
    partial=st.sampled_from([0.25, 0.5, 1.0]),
)
def test_frequencies_equal_transformers(
    reference: Any, ulps: Any, slack: int, theta: float, factor: float, head_dim: int, partial: float
) -> None:
    parameters = {
        "rope_type": "linear",
        "rope_theta": theta,
        "factor": factor,
        "partial_rotary_factor": partial,
    }
    config, inv_freq, attention = reference(parameters, head_dim=head_dim)
    spec = specs_from_config(config)[""]
    assert ulps(spec.inv_freq(), inv_freq) <= slack
    assert spec.attention_scaling == attention


def test_losing_the_factor_is_seen(ulps: Any) -> None:
    scaled, plain = (RopeSpec(64, 64, False, 1e4, rule, 2048) for rule in (Linear(4.0), Default()))
    assert ulps(scaled.inv_freq(), plain.inv_freq()) > 1_000_000
    assert ulps(scaled.inv_freq() * 4, plain.inv_freq()) == 0  # a power of two is exact
