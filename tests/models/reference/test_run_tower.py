"""Towers as the reference: their results by name, and what their rotary functions are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rope_deploy.models import run_reference
from rope_deploy.models.example_inputs import guess_example
from rope_deploy.models.reference.run_tower import tower_results
from rope_deploy.models.reference.tower_rotations import tower_rotations
from tests import towers


@pytest.mark.parametrize("name", towers.TOWERS)
def test_every_rotation_is_tapped_before_and_after(name):
    loaded = towers.loaded(name)
    arguments = {key: value.numpy() for key, value in guess_example(loaded.model).arguments.items()}
    found = run_reference(loaded, arguments, taps=True)
    for layer in (0, 1):
        for role in "qk":
            before, after = found[f"unrotated.{layer}.{role}"], found[f"rotated.{layer}.{role}"]
            assert before.shape == after.shape
            assert np.abs(before - after).max() > 0.1
            np.testing.assert_allclose(np.linalg.norm(before, axis=-1), np.linalg.norm(after, axis=-1), rtol=1e-4)
    assert "rotated.2.q" not in found


def test_nothing_is_recorded_outside_the_block():
    model = towers.build("dinov3")
    arguments = guess_example(model).arguments
    with torch.no_grad():
        with tower_rotations(model) as rotations:
            model(**arguments)
        model(**arguments)
    assert len(rotations.pairs) == 4


def test_results_are_named_however_they_are_nested():
    one, two = torch.ones(1), torch.ones(2)
    found = tower_results({"features": [one, two], "mask": torch.ones(1, dtype=torch.bool), "none": None})
    assert list(found) == ["features.0", "features.1"]
    assert list(tower_results(one)) == ["last_hidden_state"]
    assert list(tower_results((one, two))) == ["output.0", "output.1"]
