"""Mistakes of a site that has no rule, made of the right angles as they were measured (RD1xx, RD2xx).

With a rule, an `Evidence` can be made, and the other files of mistakes say more.

Shapes: angles cos + i sin, complex [B or 1, 1, S, R/2]: B images, S tokens, R/2 pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rope_deploy.diagnosis.phase_mistakes import EXCHANGES
from rope_deploy.rope import rotate

SHIFTS = tuple(step * sign for step in range(1, 9) for sign in (1, -1))


@dataclass(frozen=True)
class AngleMistake:
    """A code of `results/codes.py`, a sentence, and the wrong rotation: its angles and whether pairs are interleaved.

    `rows`: the tokens of which it says something; a shift knows nothing of those at the ends.
    """

    code: str
    explanation: str
    angles: np.ndarray
    interleaved: bool
    rows: slice

    def expected(self, x: np.ndarray) -> np.ndarray:
        """What a site with this mistake makes of x, float64 [B, N, S, H], at `rows`."""
        angles = self.angles[:, :, self.rows]
        return rotate(x[:, :, self.rows], angles.real, angles.imag, interleaved=self.interleaved)


def angle_mistakes(right: np.ndarray, *, interleaved: bool) -> Iterator[AngleMistake]:
    """Everything that a site may do instead of rotating by the angles `right`, in the order of trial."""
    rows, pairs, every = right.shape[2], right.shape[3], slice(None)

    def other(code: str, explanation: str, angles: np.ndarray) -> AngleMistake:
        return AngleMistake(code, explanation, angles, interleaved, every)

    yield other("RD106", "Nothing is rotated.", np.ones_like(right))
    yield other("RD102", "It rotates the other way.", right.conj())
    yield other("RD107", "It rotates twice as far.", right**2)
    yield AngleMistake("RD101", "Its pairs lie otherwise.", right, not interleaved, every)
    for explanation, change in EXCHANGES.items():
        cos, sin = change(right.real, right.imag)
        yield other("RD111", explanation, cos + 1j * sin)
    for kept in range(pairs - 1, 0, -1):
        for what, value in (("leave as they came", 1.0), ("become zero", 0.0)):
            part = right.copy()
            part[..., kept:] = value
            yield other("RD112", f"The last {pairs - kept} of {pairs} pairs {what}.", part)
    for step in SHIFTS:
        if abs(step) < rows:
            inner = slice(max(0, -step), rows - max(0, step))
            explanation = f"Every token is rotated as the one {step:+d} rows from it."
            yield AngleMistake("RD201", explanation, np.roll(right, -step, axis=2), interleaved, inner)
    for angles in _axes_exchanged(right):
        yield other("RD209", "Rows and columns of the image are exchanged.", angles)


def _axes_exchanged(right: np.ndarray) -> Iterator[np.ndarray]:
    """The angles of the other axis: of the other half of the pairs, of the neighbour pair, or of the other token."""
    rows, pairs = right.shape[2], right.shape[3]
    half = pairs // 2
    yield np.concatenate([right[..., half:], right[..., :half]], axis=-1)
    if pairs % 2 == 0:
        yield right.reshape(*right.shape[:3], half, 2)[..., ::-1].reshape(right.shape)
    for height in (n for n in range(2, rows) if rows % n == 0):
        grid = right.reshape(*right.shape[:2], height, rows // height, pairs)
        yield grid.swapaxes(2, 3).reshape(right.shape)
