"""Proportional rotation (Gemma 4): the fast pairs are rotated, the slow ones are not; pairs span the whole head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rope_deploy.rope.fp32_power import power
from rope_deploy.rope.rules.base import RuleInput, Scaling, positive, ramp


@dataclass(frozen=True)
class Proportional(Scaling):
    """transformers' `_compute_proportional_rope_parameters`.

    Unlike a partial rotation, which rotates a prefix of the head, this one pairs across the whole head
    (rotary_dim = head_dim) and gives the pairs beyond `partial_rotary_factor` frequency zero, so cos = 1 and
    sin = 0. Exponents are fractions of the head.
    """

    partial_rotary_factor: float = 1.0
    factor: float = 1.0

    rope_type: ClassVar[str] = "proportional"

    def inv_freq(self, spec: RuleInput, seq_len: int | None = None, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        rotating = int(self.partial_rotary_factor * spec.rotary_dim // 2)
        inv_freq = np.zeros(spec.rotary_dim // 2, dtype=dtype)
        inv_freq[:rotating] = 1 / power(spec.rope_theta, ramp(2 * rotating, dtype) / spec.rotary_dim)
        return inv_freq / self.factor

    def faults(self, rotary_dim: int) -> list[str]:
        found = positive(self, "factor")
        if not 0 <= self.partial_rotary_factor <= 1:
            found.append(f"partial_rotary_factor must lie in 0 … 1, not {self.partial_rotary_factor}.")
        return found
