"""Mistakes that add one phase to every pair: cos and sin exchanged, or a constant angle (RD111).

cos and sin in each other's place turn a pair by π/2 − φ instead of φ. With a sign on one of them it is φ ± π/2: scores
of q and k that are both turned so are right, and every key in a cache is wrong for whoever reads it otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from rope_deploy.diagnosis.hypothesis import Mistake, Rotation, Tables, Turning
from rope_deploy.diagnosis.measure import Multipliers

ALIKE = 0.99  # length of the mean of unit vectors that point the same way

EXCHANGES: dict[str, Callable[[np.ndarray, np.ndarray], Tables]] = {
    "cos and sin are exchanged.": lambda cos, sin: (sin, cos),
    "cos and sin are exchanged, and the new sine has the wrong sign.": lambda cos, sin: (sin, -cos),
    "cos and sin are exchanged, and the new cosine has the wrong sign.": lambda cos, sin: (-sin, cos),
    "cos and sin are exchanged, and both have the wrong sign.": lambda cos, sin: (-sin, -cos),
    "The cosine is used for the sine as well.": lambda cos, sin: (cos, cos),
    "The sine is used for the cosine as well.": lambda cos, sin: (sin, sin),
    "cos and sin both have the wrong sign.": lambda cos, sin: (-cos, -sin),
    "The cosine has the wrong sign.": lambda cos, sin: (-cos, sin),
}


def exchange_mistakes(right: Rotation) -> Iterator[Mistake]:
    """The right tables, each read for the other or with a sign of its own."""
    for explanation, change in EXCHANGES.items():
        yield Mistake("RD111", explanation, replace(right, turning=_changed(right.turning, change)))


def phase_mistakes(right: Rotation, wrong: Sequence[tuple[Multipliers, int]]) -> Iterator[Mistake]:
    """The one phase that all pairs of all wrong tokens have too much, if there is one.

    `wrong` holds the multipliers of each wrong call and its length in tokens.
    """
    units = []
    for found, length in wrong:
        if len(found.positions):
            cos, sin = (half[0] for half in right.turning(found.positions[None], length))
            units.append((found.values * (cos - 1j * sin)).ravel())
    every = np.concatenate(units) if units else np.zeros(0, np.complex128)
    every = every[np.abs(every) > 0]
    mean = (every / np.abs(every)).mean() if len(every) else 0j
    if abs(mean) < ALIKE:
        return
    phase = float(np.angle(mean))
    explanation = f"Every pair is turned by {phase:.4g} rad more than it should be, at every position."
    turn = np.exp(1j * phase)

    def moved(cos: np.ndarray, sin: np.ndarray) -> Tables:
        z = (cos.astype(np.float64) + 1j * sin) * turn
        return z.real, z.imag

    yield Mistake("RD111", explanation, replace(right, turning=_changed(right.turning, moved)))


def _changed(turning: Turning, change: Callable[[np.ndarray, np.ndarray], Tables]) -> Turning:
    return lambda places, length: change(*turning(places, length))
