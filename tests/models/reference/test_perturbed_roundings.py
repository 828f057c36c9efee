"""What chance does to a half run: as much again as rounding to nearest, elsewhere for every seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rope_deploy.models import Exact, run_perturbed, run_reference
from rope_deploy.models.reference.perturbed_roundings import PerturbedRoundings, PerturbedSums
from tests import tiny
from tests.models.reference.test_run_reference import feeds


def apart(one, other):
    return np.sqrt(np.square(one["logits"] - other["logits"]).mean())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_perturbed_run_is_about_as_far_from_the_truth_as_an_ordinary_one(dtype):
    loaded, given = tiny.loaded("llama", dtype=dtype), feeds(16)
    truth, half = Exact(loaded)(given), run_reference(loaded, given)
    for seed in range(4):
        ratio = apart(run_perturbed(loaded, given, seed), truth) / apart(half, truth)
        assert 0.8 < ratio < 3, seed


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_one_seed_shakes_one_way_and_another_another(dtype):
    loaded, given = tiny.loaded("llama", dtype=dtype), feeds()
    first, again, other = (run_perturbed(loaded, given, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first["logits"], again["logits"])
    assert apart(first, other) > 0


def test_float32_and_data_that_is_only_moved_stay_as_they_are():
    x, half = torch.randn(64, 64), torch.randn(64, 64).half()
    with PerturbedRoundings(0):
        assert torch.equal(x @ x, torch.mm(x, x))
        moved = torch.cat([half.t().reshape(-1)[5:], half[0]])
        summed = half + half
    assert torch.equal(moved, torch.cat([half.t().reshape(-1)[5:], half[0]]))
    wrong = (summed != half + half).float().mean()
    assert 0.02 < wrong < 0.2  # one in twelve


def test_steps_are_of_one_neighbour():
    one = torch.full((4096,), 3.0, dtype=torch.float16)
    with PerturbedRoundings(0):
        made = one * 1.0
    assert set(made.tolist()) == {3.0, 3.0 + 2**-9, 3.0 - 2**-9}


def test_in_float32_sums_are_moved_and_angles_are_not():
    x, inv_freq, positions = torch.randn(64, 64), torch.rand(1, 8, 1), torch.arange(4000.0).view(1, 1, -1)
    with PerturbedSums(0):
        angles, summed = inv_freq @ positions, x @ x
    assert torch.equal(angles, inv_freq @ positions)
    off, own = summed - x @ x, (x @ x).double() - x.double() @ x.double()
    assert 0.5 < float(off.std() / own.std()) < 2
