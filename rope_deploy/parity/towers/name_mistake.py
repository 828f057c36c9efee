"""What a wrong rotation of a tower did instead, where that can be told.

Each mistake predicts what the site would give for its own input, from the angles that PyTorch turned by. The first
prediction that comes true within the tolerance names it.

Shapes: angles cos + i sin, complex [B or 1, 1, S, R/2]: B images, S tokens, R/2 pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rope_deploy.diagnosis.phase_mistakes import EXCHANGES
from rope_deploy.parity.compare import magnitude
from rope_deploy.parity.towers.compare_sites import Turn, angles_of
from rope_deploy.rope import rotate

SHIFTS = tuple(step * sign for step in range(1, 9) for sign in (1, -1))


def name_of(turn: Turn, tolerance: float, real: np.ndarray | None = None) -> tuple[str, str] | None:
    """The code of the mistake and a sentence; None where nothing that has a name explains it.

    `real` [B, S] marks the tokens that count; None: all.
    """
    if turn.theirs is None or turn.exact is None:
        return None
    x, y = (side.astype(np.float64) for side in turn.ours)
    for code, words, angles, rows, interleaved in _suspects(turn):
        guess = rotate(x[:, :, rows], angles.real[:, :, rows], angles.imag[:, :, rows], interleaved=interleaved)
        gap = np.abs(guess - y[:, :, rows])
        if real is not None:
            gap = np.where(real[:, None, rows, None], gap, 0.0)
        if gap.size and np.isfinite(gap).all() and gap.max() <= tolerance * magnitude(guess):
            return code, words
    return None


def _suspects(turn: Turn) -> Iterator[tuple[str, str, np.ndarray, slice, bool]]:
    """Code, sentence, the angles it would have turned by, the rows that say so, and how pairs lie."""
    layout, every = turn.rotation.interleaved, slice(None)
    cos, sin = angles_of(*turn.theirs, turn.rotation.rotary_dim, interleaved=layout)
    due = cos + 1j * sin
    rows, pairs = due.shape[2], due.shape[3]
    yield "RD106", "Nothing is turned.", np.ones_like(due), every, layout
    yield "RD102", "It turns the other way.", due.conj(), every, layout
    yield "RD107", "It turns twice as far.", due**2, every, layout
    yield "RD101", "Its pairs lie otherwise.", due, every, not layout
    for words, change in EXCHANGES.items():
        cos_found, sin_found = change(cos, sin)
        yield "RD111", words, cos_found + 1j * sin_found, every, layout
    for kept in range(pairs - 1, 0, -1):
        for words, value in (("leave as they came", 1.0), ("become zero", 0.0)):
            part = due.copy()
            part[..., kept:] = value
            yield "RD112", f"The last {pairs - kept} of {pairs} pairs {words}.", part, every, layout
    for step in SHIFTS:
        if abs(step) < rows:
            seen = slice(max(0, -step), rows - max(0, step))
            moved = np.roll(due, -step, axis=2)
            yield "RD201", f"Every token is turned as the one {step:+d} rows from it.", moved, seen, layout
    half = pairs // 2
    words = "Rows and columns of the image are exchanged."
    yield "RD209", words, np.concatenate([due[..., half:], due[..., :half]], axis=-1), every, layout
    if pairs % 2 == 0:
        yield "RD209", words, due.reshape(*due.shape[:3], half, 2)[..., ::-1].reshape(due.shape), every, layout
    for height in (n for n in range(2, rows) if rows % n == 0):
        grid = due.reshape(*due.shape[:2], height, rows // height, pairs)
        yield "RD209", words, grid.swapaxes(2, 3).reshape(due.shape), every, layout
