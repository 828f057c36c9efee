from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rope_deploy.errors import ConfigError
from rope_deploy.rope import RopeSpec, Yarn, specs_from_config

OPTIONAL = {
    "attention_factor": st.floats(0.5, 2),
    "beta_fast": st.one_of(st.integers(2, 64), st.floats(2, 64), st.just(0)),
    "beta_slow": st.one_of(st.floats(0.125, 1.9), st.just(0)),
    "mscale": st.one_of(st.floats(0.1, 2), st.just(0)),
    "mscale_all_dim": st.one_of(st.floats(0.1, 2), st.just(0)),
    "truncate": st.booleans(),
    "original_max_position_embeddings": st.integers(64, 65536),
}
SPEC = RopeSpec(64, 64, False, 1e4, Yarn(factor=8.0, original_max_position_embeddings=2048, truncate=False), 16384)


@settings(max_examples=250, deadline=None)
@given(
    theta=st.floats(1000, 1e7),
    factor=st.one_of(st.none(), st.integers(1, 64), st.floats(0.5, 64)),
    optional=st.fixed_dictionaries({}, optional=OPTIONAL),
    head_dim=st.sampled_from([32, 64, 96, 128]),
    partial=st.sampled_from([0.25, 0.5, 1.0]),
    max_position=st.sampled_from([4096, 131072]),
)
def test_frequencies_and_attention_scaling_equal_transformers(
    reference: Any,
    ulps: Any,
    slack: int,
    theta: float,
    factor: float | None,
    optional: dict[str, Any],
    head_dim: int,
    partial: float,
    max_position: int,
) -> None:
    parameters = {
        "rope_type": "yarn",
        "rope_theta": theta,
        "factor": factor,
        "partial_rotary_factor": partial,
        **optional,
    }
    config, inv_freq, attention = reference(parameters, head_dim=head_dim, max_position=max_position)
    spec = specs_from_config(config)[""]
    assert ulps(spec.inv_freq(), inv_freq) <= slack
    assert spec.attention_scaling == attention


@pytest.mark.parametrize(
    "planted",
    [
        {"truncate": True},
        {"beta_fast": 33},
        {"beta_slow": 1.1},
        {"factor": 8.01},
        {"original_max_position_embeddings": 2049},
    ],
    ids=lambda planted: next(iter(planted)),
)
def test_a_planted_fault_moves_the_frequencies(ulps: Any, planted: dict[str, Any]) -> None:
    wrong = dataclasses.replace(SPEC, scaling=dataclasses.replace(SPEC.scaling, **planted))
    assert ulps(wrong.inv_freq(), SPEC.inv_freq()) > 1


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, 0.1 * np.log(8) + 1),
        ({"mscale": 1.0}, 0.1 * np.log(8) + 1),
        ({"mscale": 1.0, "mscale_all_dim": 1.0}, 1.0),
        ({"mscale": 0.707, "mscale_all_dim": 1.0}, (0.0707 * np.log(8) + 1) / (0.1 * np.log(8) + 1)),
        ({"mscale": 0.707, "mscale_all_dim": 1.0, "attention_factor": 1.5}, 1.5),
    ],
)
def test_attention_scaling_takes_the_stated_factor_then_both_mscales_then_the_factor(
    keys: dict[str, float], expected: float
) -> None:
    scaling = Yarn(factor=8.0, original_max_position_embeddings=2048, **keys)
    assert scaling.attention_scaling == pytest.approx(expected, rel=1e-14)


def test_fast_pairs_are_kept_and_slow_ones_divided_by_the_factor() -> None:
    plain = 1e4 ** -(np.arange(0, 64, 2) / 64)
    ratio = SPEC.inv_freq(dtype=np.float64) / plain
    assert ratio[0] == 1.0
    np.testing.assert_allclose(ratio[-1], 1 / 8, rtol=1e-14)
    assert (np.diff(ratio) <= 1e-15).all()


def test_a_missing_factor_is_a_fault_and_a_null_one_is_the_ratio_of_the_lengths() -> None:
    config = {"model_type": "llama", "head_dim": 64, "max_position_embeddings": 8192}
    parameters = {"rope_type": "yarn", "original_max_position_embeddings": 2048}
    with pytest.raises(ConfigError, match="factor is missing"):
        specs_from_config({**config, "rope_parameters": parameters})
    spec = specs_from_config({**config, "rope_parameters": {**parameters, "factor": None}})[""]
    assert isinstance(spec.scaling, Yarn)
    assert spec.scaling.factor == 4.0
