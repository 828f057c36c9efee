from __future__ import annotations

import numpy as np
import torch

from rope_deploy.rope import longest, positions_from_mask

MASK = np.array([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0]])


def test_padding_on_the_left_does_not_count() -> None:
    np.testing.assert_array_equal(positions_from_mask(MASK)[1], [0, 0, 0, 1])


def test_positions_of_real_tokens_are_those_of_transformers_generate() -> None:
    mask = torch.from_numpy(MASK)
    theirs = (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 0).numpy()
    np.testing.assert_array_equal(positions_from_mask(MASK)[MASK == 1], theirs[MASK == 1])
    assert (np.arange(4)[None].repeat(3, 0)[MASK == 1] != theirs[MASK == 1]).any()  # arange would be wrong


def test_a_decode_step_gets_the_last_position() -> None:
    np.testing.assert_array_equal(positions_from_mask(MASK, 1), [[3], [1], [1]])


def test_positions_are_int64_and_never_negative_even_without_a_token() -> None:
    positions = positions_from_mask(np.zeros((2, 3), dtype=bool))
    assert positions.dtype == np.int64
    np.testing.assert_array_equal(positions, np.zeros((2, 3)))


def test_the_length_that_picks_frequencies_is_the_largest_position_and_one() -> None:
    assert longest(np.array([[3, 9], [0, 1]])) == 10
