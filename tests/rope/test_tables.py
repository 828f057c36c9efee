from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import transformers
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from rope_deploy.errors import PositionOutOfRange
from rope_deploy.rope import Default, DynamicNTK, RopeSpec, Yarn, cos_sin, rows_at, specs_from_config, tables

PLAIN = RopeSpec(128, 128, False, 1e4, Default(), 1 << 17)


def test_tables_have_half_width_and_fp32() -> None:
    cos, sin = tables(PLAIN, 16)
    assert cos.shape == sin.shape == (16, 64)
    assert cos.dtype == sin.dtype == np.float32
    np.testing.assert_array_equal(cos[0], 1)
    np.testing.assert_array_equal(sin[0], 0)


@pytest.mark.parametrize(
    "parameters",
    [
        {"rope_type": "default", "rope_theta": 10000.0},
        {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 1024},
    ],
    ids=lambda parameters: parameters["rope_type"],
)
def test_model_angles_give_the_models_cos_and_sin_within_an_ulp_at_every_position(parameters: dict) -> None:
    config = transformers.LlamaConfig(head_dim=64, max_position_embeddings=8192, rope_parameters=dict(parameters))
    rotary = LlamaRotaryEmbedding(config)
    theirs = rotary(torch.zeros(1), torch.arange(8192)[None])
    ours = tables(specs_from_config(config.to_dict())[""], 8192)
    for a, b in zip(ours, theirs, strict=True):
        # cosines lie within ±attention_scaling < 2: one ulp there is 1.2e-7
        np.testing.assert_allclose(a, b[0, :, :32].numpy(), rtol=0, atol=1.2e-7)


def test_the_twin_an_ulp_more_frequency_fails_that_comparison() -> None:
    cos, _ = tables(PLAIN, 8192)
    inv_freq = np.nextafter(PLAIN.inv_freq(), np.float32(2))
    nudged = np.cos(np.arange(8192, dtype=np.float32)[:, None] * inv_freq)
    assert np.abs(cos - nudged).max() > 1e-4


@pytest.mark.parametrize(("rows", "worst"), [(4096, 2.4e-4), (100_000, 6.8e-3)])
def test_fp32_angles_lose_what_fp64_angles_keep(rows: int, worst: float) -> None:
    """theta 1e4, 128 wide, the last 64 rows: the error grows with the position in fp32, not in fp64."""
    exact = np.arange(rows)[-64:, None] * 1e4 ** -(np.arange(0, 128, 2) / 128)
    errors = {}
    for angles in ("model", "float64"):
        cos, sin = tables(PLAIN, rows, angles=angles)  # type: ignore[arg-type]
        errors[angles] = max(np.abs(cos[-64:] - np.cos(exact)).max(), np.abs(sin[-64:] - np.sin(exact)).max())
    assert errors["float64"] <= 3.1e-8
    assert 0.2 * worst < errors["model"] <= 1.05 * worst


def test_attention_scaling_is_folded_into_both_tables() -> None:
    spec = dataclasses.replace(PLAIN, scaling=Yarn(8.0, 1024, attention_factor=1.5))
    scaled = tables(spec, 64)
    plain = tables(dataclasses.replace(spec, scaling=Yarn(8.0, 1024, attention_factor=1.0)), 64)
    for a, b in zip(scaled, plain, strict=True):
        np.testing.assert_array_equal(a, b * np.float32(1.5))


def test_a_reversed_rotation_negates_the_sine_alone() -> None:
    (cos, sin), (cos_back, sin_back) = tables(PLAIN, 8), tables(dataclasses.replace(PLAIN, reversed=True), 8)
    np.testing.assert_array_equal(cos, cos_back)
    np.testing.assert_array_equal(sin, -sin_back)


def test_the_length_picks_the_table_where_the_rule_depends_on_it() -> None:
    spec = dataclasses.replace(PLAIN, scaling=DynamicNTK(2.0, 1024))
    short, long = tables(spec, 32, seq_len=1024)[0], tables(spec, 32, seq_len=4096)[0]
    np.testing.assert_array_equal(short, tables(spec, 32)[0])
    assert np.abs(short - long).max() > 0.1


@pytest.mark.parametrize("in_turn", [False, True], ids=["sections", "in turn"])
def test_each_pair_takes_the_position_of_its_axis(in_turn: bool) -> None:
    spec = dataclasses.replace(PLAIN, mrope_section=(16, 24, 24), mrope_interleaved=in_turn)
    positions = np.arange(24).reshape(3, 2, 4) ** 2
    cos, _ = cos_sin(spec, positions)
    table, _ = tables(spec, int(positions.max()) + 1)
    for pair, axis in enumerate(spec.axes):
        np.testing.assert_array_equal(cos[..., pair], table[positions[axis], pair])
    assert np.bincount(spec.axes).tolist() == ([16, 24, 24] if not in_turn else [22, 21, 21])
    alike, _ = cos_sin(spec, positions[:1].repeat(3, axis=0))
    np.testing.assert_array_equal(alike, cos_sin(PLAIN, positions[0])[0])


@pytest.mark.parametrize("position", [-1, 16, 1 << 40])
def test_a_position_outside_the_table_is_refused_and_named(position: int) -> None:
    cos, _ = tables(PLAIN, 16)
    with pytest.raises(PositionOutOfRange, match=f"Position {position} is outside"):
        rows_at(cos, np.array([[0, position, 3]]))


def test_positions_inside_pick_their_rows() -> None:
    cos, _ = tables(PLAIN, 16)
    np.testing.assert_array_equal(rows_at(cos, np.array([[15, 0], [3, 3]])), cos[[[15, 0], [3, 3]]])
    assert rows_at(cos, np.zeros((2, 0), dtype=np.int64)).shape == (2, 0, 64)
