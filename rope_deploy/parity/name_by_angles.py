"""Name the mistake of a site that has no rule, by the angles that PyTorch rotated by.

Each mistake predicts what the site would give for its own input. The first prediction that is true within the tolerance
names it. (Where there is a rule, `diagnosis/` does this with many more mistakes.)
"""

from __future__ import annotations

import numpy as np

from rope_deploy.diagnosis.without_rule import angle_mistakes
from rope_deploy.parity.reference_angles import ObservedRotation, measured_angles
from rope_deploy.parity.tensor_errors import magnitude


def name_by_angles(
    observed: ObservedRotation, tolerance: float, real: np.ndarray | None = None
) -> tuple[str, str] | None:
    """The code of the mistake and a sentence; None if no known mistake explains it.

    `real` [B, S] marks the tokens that count; None: all.
    """
    if observed.theirs is None or observed.exact is None:
        return None
    x, y = (side.astype(np.float64) for side in observed.ours)
    layout = observed.rotation.interleaved
    cos, sin = measured_angles(*observed.theirs, observed.rotation.rotary_dim, interleaved=layout)
    for mistake in angle_mistakes(cos + 1j * sin, interleaved=layout):
        guess = mistake.expected(x)
        gap = np.abs(guess - y[:, :, mistake.rows])
        if real is not None:
            gap = np.where(real[:, None, mistake.rows, None], gap, 0.0)
        if gap.size and np.isfinite(gap).all() and gap.max() <= tolerance * magnitude(guess):
            return mistake.code, mistake.explanation
    return None
