"""The one operation that is not IEEE: fp32 power, against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rope_deploy.rope.fp32_power import power

BASES = st.one_of(
    st.sampled_from([1e2, 1e3, 1e4, 1.5e5, 5e5, 1e6, 5e6, 1e7, 1e8]),
    st.floats(1.0625, 1e9, allow_nan=False),
    st.integers(2, 10**9),
)


@settings(max_examples=400, deadline=None)
@given(base=BASES, half=st.integers(1, 160))
def test_power_is_pytorchs_to_the_bit(ulps: Any, slack: int, base: float, half: int) -> None:
    exponents = torch.arange(0, 2 * half, 2, dtype=torch.float32) / (2 * half)
    ours = power(base, exponents.numpy())
    assert ours.dtype == np.float32
    assert ulps(ours, (base**exponents).numpy()) <= slack


def test_numpys_own_or_a_correctly_rounded_power_is_not() -> None:
    """The twin: what the module exists for. Over 4000 bases the simple spellings miss PyTorch's bits."""
    exponents = np.arange(0, 128, 2, dtype=np.float32) / np.float32(128)
    missed = 0
    for base in np.linspace(1e4, 5e6, 4000):
        rounded = np.power(np.float64(np.float32(base)), exponents.astype(np.float64)).astype(np.float32)
        missed += int((rounded != power(base, exponents)).sum())
    assert 0.001 < missed / (4000 * 64) < 0.05


def test_fp64_exponents_give_an_fp64_power() -> None:
    exponents = np.arange(0, 1, 1 / 64)
    ours = power(1e4, exponents)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, np.exp(exponents * np.log(1e4)), rtol=1e-14)


def test_no_exponents_give_no_powers() -> None:
    assert power(1e4, np.zeros(0, dtype=np.float32)).shape == (0,)
