from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rope_deploy.rope import Default, RopeSpec, specs_from_config


@settings(max_examples=60, deadline=None)
@given(
    theta=st.floats(1.5, 1e8),
    head_dim=st.sampled_from([8, 32, 64, 80, 96, 128, 256]),
    partial=st.sampled_from([0.25, 0.5, 0.75, 1.0]),
)
def test_frequencies_equal_transformers(
    reference: Any, ulps: Any, slack: int, theta: float, head_dim: int, partial: float
) -> None:
    parameters = {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": partial}
    config, inv_freq, factor = reference(parameters, head_dim=head_dim)
    spec = specs_from_config(config)[""]
    assert spec.scaling == Default()
    assert spec.rotary_dim == int(head_dim * partial)
    assert ulps(spec.inv_freq(), inv_freq) <= slack
    assert spec.attention_scaling == factor == 1.0


def test_a_theta_one_part_in_a_million_off_is_seen(reference: Any, ulps: Any) -> None:
    config, inv_freq, _ = reference({"rope_type": "default", "rope_theta": 10000.0}, head_dim=64)
    config["rope_parameters"]["rope_theta"] = 10000.01
    assert ulps(specs_from_config(config)[""].inv_freq(), inv_freq) > 1


def test_frequencies_fall_from_one_to_almost_one_over_theta() -> None:
    inv_freq = RopeSpec(128, 128, False, 1e4, Default(), 2048).inv_freq(dtype=np.float64)
    assert inv_freq[0] == 1.0
    np.testing.assert_allclose(inv_freq[-1], 1e4 ** (-126 / 128), rtol=1e-14)
    assert (np.diff(inv_freq) < 0).all()
