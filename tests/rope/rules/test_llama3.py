from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rope_deploy.errors import ConfigError
from rope_deploy.rope import Llama3, RopeSpec, specs_from_config

RULE = Llama3(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
SPEC = RopeSpec(128, 128, False, 5e5, RULE, 131072)


@settings(max_examples=100, deadline=None)
@given(
    theta=st.floats(100, 1e7),
    factor=st.floats(1, 64),
    low=st.floats(0.125, 4),
    span=st.floats(0.01, 8),
    original=st.integers(64, 16384),
    head_dim=st.sampled_from([32, 64, 96, 128]),
    partial=st.sampled_from([0.5, 1.0]),
)
def test_frequencies_equal_transformers(
    reference: Any,
    ulps: Any,
    slack: int,
    theta: float,
    factor: float,
    low: float,
    span: float,
    original: int,
    head_dim: int,
    partial: float,
) -> None:
    parameters = {
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": low + span,
        "original_max_position_embeddings": original,
        "partial_rotary_factor": partial,
    }
    config, inv_freq, attention = reference(parameters, head_dim=head_dim, max_position=32768)
    spec = specs_from_config(config)[""]
    assert ulps(spec.inv_freq(), inv_freq) <= slack
    assert spec.attention_scaling == attention


@pytest.mark.parametrize(
    "planted", [{"factor": 9.0}, {"low_freq_factor": 1.1}, {"high_freq_factor": 3.9}], ids=lambda p: next(iter(p))
)
def test_a_planted_fault_moves_the_frequencies(ulps: Any, planted: dict[str, float]) -> None:
    wrong = dataclasses.replace(SPEC, scaling=dataclasses.replace(RULE, **planted))
    assert ulps(wrong.inv_freq(), SPEC.inv_freq()) > 1


def test_short_waves_are_kept_and_long_ones_stretched() -> None:
    plain = 5e5 ** -(np.arange(0, 128, 2) / 128)
    ratio = SPEC.inv_freq(dtype=np.float64) / plain
    wavelength = 2 * np.pi / plain
    np.testing.assert_allclose(ratio[wavelength < 8192 / 4], 1.0, rtol=1e-14)
    np.testing.assert_allclose(ratio[wavelength > 8192], 1 / 8, rtol=1e-14)
    between = ratio[(wavelength > 8192 / 4) & (wavelength < 8192)]
    assert len(between) > 0
    assert ((between > 1 / 8) & (between < 1)).all()


def test_crossed_limits_are_a_fault() -> None:
    with pytest.raises(ConfigError, match="high_freq_factor must not be below low_freq_factor"):
        dataclasses.replace(SPEC, scaling=dataclasses.replace(RULE, low_freq_factor=4.5))


def test_equal_limits_leave_no_pair_between() -> None:
    """Llama 4 Scout states 1 and 1: every pair is kept or stretched."""
    equal = dataclasses.replace(SPEC, scaling=dataclasses.replace(RULE, high_freq_factor=1.0))
    ratio = equal.inv_freq(dtype=np.float64) * 5e5 ** (np.arange(0, 128, 2) / 128)
    assert {round(float(one), 9) for one in ratio} == {1.0, 1 / 8}
