"""Mistakes that add one phase to every pair: cos and sin exchanged, or a constant angle (RD111).

cos and sin exchanged rotate a pair by π/2 − φ instead of φ. With a sign on one of them it is φ ± π/2: scores of q and k
that are both rotated so are right, and every key in a cache is wrong for a program that rotates otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.hypothesis import AngleFunction, CosSin, Mistake

ALIKE = 0.99  # length of the mean of unit vectors that have the same direction

EXCHANGES: dict[str, Callable[[np.ndarray, np.ndarray], CosSin]] = {
    "cos and sin are exchanged.": lambda cos, sin: (sin, cos),
    "cos and sin are exchanged, and the new sine has the wrong sign.": lambda cos, sin: (sin, -cos),
    "cos and sin are exchanged, and the new cosine has the wrong sign.": lambda cos, sin: (-sin, cos),
    "cos and sin are exchanged, and both have the wrong sign.": lambda cos, sin: (-sin, -cos),
    "The cosine is used for the sine as well.": lambda cos, sin: (cos, cos),
    "The sine is used for the cosine as well.": lambda cos, sin: (sin, sin),
    "cos and sin both have the wrong sign.": lambda cos, sin: (-cos, -sin),
    "The cosine has the wrong sign.": lambda cos, sin: (-cos, sin),
}


def exchange_mistakes(evidence: Evidence) -> Iterator[Mistake]:
    """The right tables, each read for the other or with the wrong sign."""
    stated = evidence.stated
    for explanation, change in EXCHANGES.items():
        yield Mistake("RD111", explanation, replace(stated, angle_function=changed(stated.angle_function, change)))


def phase_mistakes(evidence: Evidence) -> Iterator[Mistake]:
    """The phase by which all pairs of all wrong tokens are rotated too far, if it is the same for all."""
    stated, units = evidence.stated, []
    for measured, length in evidence.wrong_multipliers:
        if len(measured.positions):
            cos, sin = (half[0] for half in stated.angle_function(measured.positions[None], length))
            units.append((measured.values * (cos - 1j * sin)).ravel())
    every = np.concatenate(units) if units else np.zeros(0, np.complex128)
    every = every[np.abs(every) > 0]
    mean = (every / np.abs(every)).mean() if len(every) else 0j
    if abs(mean) < ALIKE:
        return
    phase = float(np.angle(mean))
    explanation = f"Every pair is rotated by {phase:.4g} rad more than it should be, at every position."
    multiplier = np.exp(1j * phase)

    def advanced(cos: np.ndarray, sin: np.ndarray) -> CosSin:
        z = (cos.astype(np.float64) + 1j * sin) * multiplier
        return z.real, z.imag

    yield Mistake("RD111", explanation, replace(stated, angle_function=changed(stated.angle_function, advanced)))


def changed(angles: AngleFunction, change: Callable[[np.ndarray, np.ndarray], CosSin]) -> AngleFunction:
    """The cos and sin of `angles` after `change`."""
    return lambda positions, length: change(*angles(positions, length))
