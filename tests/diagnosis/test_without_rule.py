"""A site without a rule: every mistake that is made of measured angles names itself, and the right rotation none."""

import numpy as np
import pytest

from rope_deploy.diagnosis.phase_mistakes import EXCHANGES
from rope_deploy.diagnosis.without_rule import angle_mistakes
from rope_deploy.results.codes import CODES
from rope_deploy.rope import rotate

HEADS, HEIGHT, WIDTH, PAIRS = 2, 3, 4, 4
ROWS = np.repeat(np.arange(HEIGHT), WIDTH), np.tile(np.arange(WIDTH), HEIGHT)
# The first pairs rotate by the row of an image and the last by its column.
ANGLES = np.concatenate([axis[:, None] * [1.3, 0.17] + 0.05 for axis in ROWS], axis=1)[None, None]
RIGHT = np.exp(1j * ANGLES)
X = np.random.default_rng(0).standard_normal((1, HEADS, HEIGHT * WIDTH, 2 * PAIRS + 2))


def first(y, *, interleaved=False):
    """The first mistake that makes y of X."""
    return next(
        (
            one
            for one in angle_mistakes(RIGHT, interleaved=interleaved)
            if np.abs(one.expected(X) - y[:, :, one.rows]).max() < 1e-9
        ),
        None,
    )


def made(angles, *, interleaved=False):
    return rotate(X, angles.real, angles.imag, interleaved=interleaved)


@pytest.mark.parametrize("interleaved", [False, True])
def test_the_right_rotation_is_no_mistake(interleaved):
    assert first(made(RIGHT, interleaved=interleaved), interleaved=interleaved) is None


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("RD106", np.ones_like(RIGHT)),
        ("RD102", RIGHT.conj()),
        ("RD107", RIGHT**2),
        ("RD201", np.roll(RIGHT, 2, axis=2)),
        ("RD209", np.roll(RIGHT, PAIRS // 2, axis=3)),
        ("RD112", np.where(np.arange(PAIRS) < 3, RIGHT, 0)),
        ("RD111", RIGHT.imag + 1j * RIGHT.real),
    ],
)
def test_a_mistake_is_named(code, wrong, interleaved):
    found = first(made(wrong, interleaved=interleaved), interleaved=interleaved)
    assert found.code == code


def test_another_layout_is_named():
    assert first(made(RIGHT, interleaved=True)).code == "RD101"


def test_a_shift_is_told_with_its_size():
    assert "+1 rows" in first(made(np.roll(RIGHT, -1, axis=2))).explanation


def test_every_code_is_known_and_exchanges_are_those_of_a_rule():
    found = list(angle_mistakes(RIGHT, interleaved=False))
    assert {one.code for one in found} <= set(CODES)
    assert [one.explanation for one in found if one.code == "RD111"] == list(EXCHANGES)
