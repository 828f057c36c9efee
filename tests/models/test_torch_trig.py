"""Cos and sin of numpy arrays are PyTorch's, in every type that a model computes angles in."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from rope_deploy.models.torch_trig import cos, sin


@pytest.mark.parametrize(
    ("numpy_type", "torch_type"),
    [
        (np.float64, torch.float64),
        (np.float32, torch.float32),
        (np.float16, torch.float16),
        (ml_dtypes.bfloat16, torch.bfloat16),
    ],
)
def test_cos_and_sin_are_torchs_to_the_last_bit(numpy_type, torch_type) -> None:
    angles = np.linspace(0, 40, 120).reshape(3, 40).astype(numpy_type)
    given = torch.from_numpy(angles.astype(np.float64)).to(torch_type)
    for ours, torchs in ((cos(angles), torch.cos(given)), (sin(angles), torch.sin(given))):
        assert ours.dtype == angles.dtype and ours.shape == angles.shape
        assert np.array_equal(ours.astype(np.float64), torchs.double().numpy())
