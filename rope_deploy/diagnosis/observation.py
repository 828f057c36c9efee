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
    """One site in one call of one case.

    `unrotated` [B, N, S, H] is what the runtime handed to the rotation; `rotated` [B, N, S, H] is what came out, None
    where only products with the keys were seen. `errors(expected)` returns how far what came out is from an expected
    output [B, N, S, H]: [B, S]. `budget` [B, S] is what rounding explains of these errors. `real` [B, S] marks the
    tokens that count (no padding). `positions` [B, S] are the position_ids that were fed, `mask` [B, T] is the
    attention_mask. Where positions have several axes (M-RoPE), `axes` [A, B, S] holds all and `positions` is the first.
    Where `errors` and `budget` are those of all tokens together, `element_budget` [B, S] is that of one element.
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
    element_budget: np.ndarray | None = None

    def elements_in_error(self, expected: np.ndarray) -> np.ndarray:
        """Which elements of a head are ever off from `expected` [B, N, S, H] by more than rounding explains: [H]."""
        budget = self.budget if self.element_budget is None else self.element_budget
        within = np.abs(self.rotated - expected) <= budget[:, None, :, None]
        return (~within & self.real[:, None, :, None]).any(axis=(0, 1, 2))

    @property
    def positions_by_axis(self) -> np.ndarray:
        """The positions that were fed: [B, S], or [A, B, S] if positions have several axes."""
        return self.positions if self.axes is None else self.axes

    @property
    def past(self) -> int:
        """Columns of the mask before this call."""
        return self.mask.shape[1] - self.positions.shape[1]
