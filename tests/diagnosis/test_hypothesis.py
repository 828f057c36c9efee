"""Rotations that a diagnosis tries out."""

import numpy as np

from rope_deploy.diagnosis.hypothesis import apply_in_layout


def test_a_rule_wider_than_the_head_explains_nothing():
    x, angle = np.ones((1, 2, 3, 8)), np.zeros((3, 4))
    assert np.array_equal(apply_in_layout(False)(x, np.cos(angle), np.sin(angle)), x)
    wide = np.zeros((3, 5))
    assert np.isnan(apply_in_layout(False)(x, np.cos(wide), np.sin(wide))).all()
