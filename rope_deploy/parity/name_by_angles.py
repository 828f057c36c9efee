"""Name the mistake of a site that has no rule, by the angles that PyTorch rotated by.

Each mistake predicts what the site would give for its own input. The first prediction that is true within the tolerance
names it. (Where there is a rule, `diagnosis/` does this with many more mistakes.)

Shapes: angles cos + i sin, complex [B or 1, 1, S, R/2]: B images, S tokens, R/2 pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rope_deploy.diagnosis.phase_mistakes import EXCHANGES
from rope_deploy.parity.reference_angles import ObservedRotation, measured_angles
from rope_deploy.parity.tensor_errors import magnitude
from rope_deploy.rope import rotate

SHIFTS = tuple(step * sign for step in range(1, 9) for sign in (1, -1))


def name_by_angles(
    observed: ObservedRotation, tolerance: float, real: np.ndarray | None = None
) -> tuple[str, str] | None:
    """The code of the mistake and a sentence; None if no known mistake explains it.

    `real` [B, S] marks the tokens that count; None: all.
    """
    if observed.theirs is None or observed.exact is None:
        return None
    x, y = (side.astype(np.float64) for side in observed.ours)
    for code, explanation, angles, rows, interleaved in _hypotheses(observed):
        guess = rotate(x[:, :, rows], angles.real[:, :, rows], angles.imag[:, :, rows], interleaved=interleaved)
        gap = np.abs(guess - y[:, :, rows])
        if real is not None:
            gap = np.where(real[:, None, rows, None], gap, 0.0)
        if gap.size and np.isfinite(gap).all() and gap.max() <= tolerance * magnitude(guess):
            return code, explanation
    return None


def _hypotheses(observed: ObservedRotation) -> Iterator[tuple[str, str, np.ndarray, slice, bool]]:
    """Code, sentence, the angles of the wrong rotation, the tokens it is seen at, and whether pairs are interleaved."""
    layout, every = observed.rotation.interleaved, slice(None)
    cos, sin = measured_angles(*observed.theirs, observed.rotation.rotary_dim, interleaved=layout)
    right = cos + 1j * sin
    rows, pairs = right.shape[2], right.shape[3]
    yield "RD106", "Nothing is turned.", np.ones_like(right), every, layout
    yield "RD102", "It turns the other way.", right.conj(), every, layout
    yield "RD107", "It turns twice as far.", right**2, every, layout
    yield "RD101", "Its pairs lie otherwise.", right, every, not layout
    for explanation, change in EXCHANGES.items():
        cos_found, sin_found = change(cos, sin)
        yield "RD111", explanation, cos_found + 1j * sin_found, every, layout
    for kept in range(pairs - 1, 0, -1):
        for what, value in (("leave as they came", 1.0), ("become zero", 0.0)):
            part = right.copy()
            part[..., kept:] = value
            yield "RD112", f"The last {pairs - kept} of {pairs} pairs {what}.", part, every, layout
    for step in SHIFTS:
        if abs(step) < rows:
            inner = slice(max(0, -step), rows - max(0, step))
            moved = np.roll(right, -step, axis=2)
            yield "RD201", f"Every token is turned as the one {step:+d} rows from it.", moved, inner, layout
    half = pairs // 2
    exchanged = "Rows and columns of the image are exchanged."
    yield "RD209", exchanged, np.concatenate([right[..., half:], right[..., :half]], axis=-1), every, layout
    if pairs % 2 == 0:
        yield (
            "RD209",
            exchanged,
            right.reshape(*right.shape[:3], half, 2)[..., ::-1].reshape(right.shape),
            every,
            layout,
        )
    for height in (n for n in range(2, rows) if rows % n == 0):
        grid = right.reshape(*right.shape[:2], height, rows // height, pairs)
        yield "RD209", exchanged, grid.swapaxes(2, 3).reshape(right.shape), every, layout
