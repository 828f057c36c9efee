"""What was seen of one site in one call: the evidence a diagnosis is made from.

Shapes: B rows, N heads, S tokens in the call, H head_dim, T columns of the mask so far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from rope_deploy.artifact import Site


@dataclass(frozen=True)
class Observation:
    """A site in one call of one case, judged sound or wrong by the same budget.

    `unrotated` [B, N, S, H] is what the runtime handed to the rotation, `rotated` [B, N, S, H] what came out, None
    where only products with the keys were seen. `errors(prediction)` says how far what came out is from a
    prediction [B, N, S, H]: [B, S]. `budget` [B, S] is what rounding explains, `real` [B, S] marks the tokens that
    count, `positions` [B, S] are the position_ids that were fed and `mask` [B, T] the attention_mask. Where positions
    have several axes (M-RoPE), `positions` is the first and `axes` [A, B, S] holds all.
    """

    case: str
    site: Site
    unrotated: np.ndarray
    rotated: np.ndarray | None
    positions: np.ndarray
    mask: np.ndarray
    real: np.ndarray
    budget: np.ndarray
    errors: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    axes: np.ndarray | None = None

    @property
    def places(self) -> np.ndarray:
        """Where tokens stand: [B, S], or [A, B, S] if positions have several axes."""
        return self.positions if self.axes is None else self.axes

    @property
    def past(self) -> int:
        """Columns of the mask before this call."""
        return self.mask.shape[1] - self.positions.shape[1]

    def ratio(self, prediction: np.ndarray) -> float:
        """Largest error of a real token, in units of its budget; infinite where a value is not finite."""
        errors = np.where(self.real, self.errors(prediction) / self.budget, 0.0)
        return float(np.where(np.isnan(errors), np.inf, errors).max(initial=0.0))
