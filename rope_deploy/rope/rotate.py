"""The rotation itself, written as plainly as possible. It is the reference for every other implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rotate(x: NDArray[Any], cos: NDArray[Any], sin: NDArray[Any], *, interleaved: bool) -> NDArray[Any]:
    """Rotate the first R elements of each vector; the rest pass through.

    x: [..., S, H]; cos, sin: [S, R/2], or [..., S, R/2] where they broadcast against x's leading axes.
    The result has x's shape and the dtype numpy gives to x · cos: give fp64 throughout for an oracle.

    Half-split (GPT-NeoX, Llama) pairs element i with i + R/2, interleaved (RoFormer, GPT-J) pairs 2i with 2i + 1.
    A proportional rotation has R = H, its unrotated pairs have cos 1 and sin 0.
    """
    half = cos.shape[-1]
    if cos.shape != sin.shape or 2 * half > x.shape[-1]:
        raise ValueError(f"tables {cos.shape} and {sin.shape} do not fit vectors {x.shape}")
    first, second = _halves(half, interleaved)
    out = x.astype(np.result_type(x, cos, sin), copy=True)
    a, b = x[..., first], x[..., second]
    out[..., first] = a * cos - b * sin
    out[..., second] = b * cos + a * sin
    return out


def _halves(half: int, interleaved: bool) -> tuple[slice, slice]:
    """Where the first and the second members of the pairs lie."""
    if interleaved:
        return slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    return slice(0, half), slice(half, 2 * half)
