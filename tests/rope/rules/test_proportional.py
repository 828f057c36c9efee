from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rope_deploy.rope import Default, Proportional, RopeSpec, rotate, specs_from_config, tables

SPEC = RopeSpec(16, 16, False, 1e4, Proportional(partial_rotary_factor=0.25), 512)


@settings(max_examples=60, deadline=None)
@given(
    theta=st.floats(100, 1e7),
    head_dim=st.sampled_from([32, 64, 96, 256, 512]),
    partial=st.floats(0.01, 1.0),
    factor=st.one_of(st.none(), st.floats(1, 16)),
)
def test_frequencies_equal_transformers(
    reference: Any, ulps: Any, slack: int, theta: float, head_dim: int, partial: float, factor: float | None
) -> None:
    parameters = {"rope_type": "proportional", "rope_theta": theta, "partial_rotary_factor": partial}
    if factor is not None:
        parameters["factor"] = factor
    config, inv_freq, attention = reference(parameters, head_dim=head_dim)
    spec = specs_from_config(config)[""]
    assert spec.rotary_dim == spec.head_dim == head_dim
    assert ulps(spec.inv_freq(), inv_freq) <= slack
    assert spec.attention_scaling == attention


def test_still_pairs_have_frequency_zero_across_the_whole_head() -> None:
    inv_freq = SPEC.inv_freq()
    assert inv_freq.shape == (8,)
    assert (inv_freq[:2] > 0).all()
    assert (inv_freq[2:] == 0).all()


def test_it_is_no_partial_rotation() -> None:
    """A quarter of 16 elements turns either way, but not the same four: 0, 8, 1, 9 here, a prefix there."""
    partial = dataclasses.replace(SPEC, rotary_dim=4, scaling=Default())
    turned = {}
    for name, spec in (("proportional", SPEC), ("partial", partial)):
        cos, sin = tables(spec, 4)
        x = np.arange(1.0, 17.0)[None].repeat(4, 0)
        turned[name] = np.flatnonzero((rotate(x, cos, sin, interleaved=False) != x).any(0)).tolist()
    assert turned == {"proportional": [0, 1, 8, 9], "partial": [0, 1, 2, 3]}
