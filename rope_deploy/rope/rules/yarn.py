"""YaRN: interpolate slow frequencies, keep fast ones (Peng et al. 2023, https://arxiv.org/abs/2309.00071)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rope_deploy.rope.rules.base import RuleInput, Scaling, implied_factor, positive, wavelengths


@dataclass(frozen=True)
class Yarn(Scaling):
    """transformers' `_compute_yarn_parameters`.

    Pairs with more than `beta_fast` revolutions within the original context are kept, pairs with fewer than
    `beta_slow` are divided by `factor`, with a linear ramp between. `truncate` rounds the ends of the ramp
    outwards to whole pairs. The attention scaling is `attention_factor`, else the ratio of the two `mscale`
    formulas when both are given and not zero (DeepSeek), else 0.1 ln(factor) + 1.
    """

    factor: float
    original_max_position_embeddings: int
    attention_factor: float | None = None
    beta_fast: float = 32
    beta_slow: float = 1
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    rope_type: ClassVar[str] = "yarn"

    @property
    def attention_scaling(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return _mscale(self.factor, self.mscale) / _mscale(self.factor, self.mscale_all_dim)
        return _mscale(self.factor, 1)

    def inv_freq(self, spec: RuleInput, seq_len: int | None = None, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        waves = wavelengths(spec, dtype)
        low, high = self._ramp_ends(spec.rotary_dim, spec.rope_theta)
        pairs = np.arange(spec.rotary_dim // 2).astype(dtype)
        kept = 1 - np.clip((pairs - low) / (high - low), 0, 1)
        return (1 / (self.factor * waves)) * (1 - kept) + (1 / waves) * kept

    def _ramp_ends(self, dim: int, theta: float) -> tuple[float, float]:
        def pair_with_revolutions(times: float) -> float:
            context = self.original_max_position_embeddings
            return (dim * math.log(context / (times * 2 * math.pi))) / (2 * math.log(theta))

        low, high = pair_with_revolutions(self.beta_fast), pair_with_revolutions(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        return low, high + 0.001 if low == high else high

    @classmethod
    def complete(cls, values: Mapping[str, Any], max_position: int) -> dict[str, Any]:
        known = {"original_max_position_embeddings": max_position, **values}
        if "factor" in known and known["factor"] is None:  # DeepSeek-V3 states the two lengths instead
            known["factor"] = implied_factor(max_position, known["original_max_position_embeddings"])
        for beta in ("beta_fast", "beta_slow"):  # transformers takes 0 and null for absent
            if beta in known and not known[beta]:
                del known[beta]
        if known.get("truncate", True) is None:  # and null, here, for false
            known["truncate"] = False
        return known

    def faults(self, rotary_dim: int) -> list[str]:
        return positive(self, "factor", "original_max_position_embeddings", "beta_fast", "beta_slow")


def _mscale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
