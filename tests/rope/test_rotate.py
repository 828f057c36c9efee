from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.cohere import modeling_cohere
from transformers.models.glm import modeling_glm
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama
from transformers.models.nanochat import modeling_nanochat

from rope_deploy.rope import Default, RopeSpec, rotate, rows_at, tables

SPEC = RopeSpec(16, 16, False, 1e4, Default(), 64)


def _x(*shape: int, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def _full(half: np.ndarray, *, paired: bool) -> torch.Tensor:
    full = np.repeat(half, 2, -1) if paired else np.concatenate([half, half], -1)
    return torch.from_numpy(full)[None]


@pytest.mark.parametrize(
    ("module", "rotary_dim", "interleaved", "paired"),
    [
        (modeling_llama, 16, False, False),
        (modeling_gpt_neox, 8, False, False),
        (modeling_cohere, 16, True, True),
        (modeling_glm, 8, True, False),
    ],
    ids=["llama", "gpt_neox partial", "cohere interleaved", "glm interleaved partial"],
)
def test_it_is_the_rotation_of_the_model(module: Any, rotary_dim: int, interleaved: bool, paired: bool) -> None:
    spec = RopeSpec(16, rotary_dim, interleaved, 1e4, Default(), 64)
    cos, sin = tables(spec, 12)
    x = _x(2, 3, 12, 16, dtype=np.float32)
    theirs, _ = module.apply_rotary_pos_emb(
        torch.from_numpy(x), torch.from_numpy(x), _full(cos, paired=paired), _full(sin, paired=paired)
    )
    ours = rotate(x, cos, sin, interleaved=interleaved)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=5e-7)
    assert np.abs(rotate(x, cos, sin, interleaved=not interleaved) - theirs.numpy()).max() > 0.1


def test_a_reversed_rotation_is_nanochats() -> None:
    x = _x(1, 2, 12, 16, dtype=np.float32)
    cos, sin = tables(RopeSpec(16, 16, False, 1e4, Default(), 64, reversed=True), 12)
    forward = np.abs(tables(SPEC, 12)[1]) > 0.1
    theirs, _ = modeling_nanochat.apply_rotary_pos_emb(
        torch.from_numpy(x), torch.from_numpy(x), _full(cos, paired=False), _full(-sin, paired=False)
    )
    np.testing.assert_allclose(rotate(x, cos, sin, interleaved=False), theirs.numpy(), rtol=0, atol=5e-7)
    assert forward.any()
    assert np.abs(rotate(x, cos, -sin, interleaved=False) - theirs.numpy()).max() > 0.1


def test_interleaved_differs_from_half_at_position_one_and_not_at_position_zero() -> None:
    """Why a check at position 0 alone proves nothing."""
    cos, sin = tables(SPEC, 2)
    x = _x(2, 16)
    half, interleaved = (rotate(x, cos, sin, interleaved=layout) for layout in (False, True))
    np.testing.assert_array_equal(half[0], interleaved[0])
    assert np.abs(half[1] - interleaved[1]).max() > 0.1


@settings(max_examples=60, deadline=None)
@given(
    half=st.integers(1, 8),
    rest=st.integers(0, 5),
    interleaved=st.booleans(),
    shift=st.integers(0, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_norms_stay_scores_are_relative_and_the_rest_passes(
    half: int, rest: int, interleaved: bool, shift: int, seed: int
) -> None:
    spec = RopeSpec(2 * half + rest, 2 * half, interleaved, 1e4, Default(), 64)
    cos, sin = (table.astype(np.float64) for table in tables(spec, 64, angles="float64"))
    x = np.random.default_rng(seed).standard_normal((6, spec.head_dim))

    def turned(first: int) -> np.ndarray:
        rows = np.arange(first, first + 6)
        return rotate(x, rows_at(cos, rows), rows_at(sin, rows), interleaved=interleaved)

    here, there = turned(0), turned(shift)
    np.testing.assert_allclose(np.linalg.norm(there, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-6)
    np.testing.assert_allclose(here @ here.T, there @ there.T, atol=2e-5)
    np.testing.assert_array_equal(there[:, 2 * half :], x[:, 2 * half :])


def test_fp64_goes_in_and_comes_out() -> None:
    cos, sin = (table.astype(np.float64) for table in tables(SPEC, 4, angles="float64"))
    assert rotate(_x(4, 16), cos, sin, interleaved=False).dtype == np.float64


def test_the_input_is_left_alone() -> None:
    x = _x(4, 16)
    before = x.copy()
    rotate(x, *tables(SPEC, 4), interleaved=True)
    np.testing.assert_array_equal(x, before)


def test_tables_wider_than_the_vector_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        rotate(_x(4, 8), *tables(SPEC, 4), interleaved=False)
