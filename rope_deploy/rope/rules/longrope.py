"""LongRoPE: one searched divisor per pair, two sets (Ding et al. 2024, https://arxiv.org/abs/2402.13753)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rope_deploy.rope.rules.base import RuleInput, Scaling, implied_factor, positive, wavelengths


@dataclass(frozen=True)
class LongRope(Scaling):
    """transformers' `_compute_longrope_parameters`.

    `short_factor` applies up to `original_max_position_embeddings` tokens, `long_factor` to every position of a
    longer sequence: keys cached before the switch were rotated by the other set. The attention scaling is the
    same for both: `attention_factor`, else sqrt(1 + ln factor / ln original), `factor` being the ratio of the
    two context lengths unless stated. Phi-3.5-MoE states one for each side of the switch instead, `short_mscale` and
    `long_mscale` (transformers' `PhimoeRotaryEmbedding.forward`).
    """

    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    original_max_position_embeddings: int
    factor: float
    attention_factor: float | None = None
    short_mscale: float | None = None
    long_mscale: float | None = None

    rope_type: ClassVar[str] = "longrope"
    depends_on_length: ClassVar[bool] = True

    @property
    def threshold(self) -> int:
        return self.original_max_position_embeddings

    @property
    def attention_scaling(self) -> float:
        if self.short_mscale is not None:
            return self.short_mscale
        if self.attention_factor is not None:
            return self.attention_factor
        if self.factor <= 1.0:
            return 1.0
        return math.sqrt(1 + math.log(self.factor) / math.log(self.original_max_position_embeddings))

    def attention_scaling_at(self, seq_len: int | None) -> float:
        long = (seq_len or 0) > self.original_max_position_embeddings
        return self.long_mscale if long and self.long_mscale is not None else self.attention_scaling

    def inv_freq(self, spec: RuleInput, seq_len: int | None = None, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        long = (seq_len or 0) > self.original_max_position_embeddings
        divisors = np.asarray(self.long_factor if long else self.short_factor, dtype=dtype)
        return 1 / (divisors * wavelengths(spec, dtype))

    @classmethod
    def complete(cls, values: Mapping[str, Any], max_position: int) -> dict[str, Any]:
        known = {"original_max_position_embeddings": max_position, **values}
        if known.get("factor") is None:
            known["factor"] = implied_factor(max_position, known["original_max_position_embeddings"])
        return known

    def faults(self, rotary_dim: int) -> list[str]:
        found = positive(self, "factor", "original_max_position_embeddings")
        if (self.short_mscale is None) != (self.long_mscale is None):
            found.append("short_mscale and long_mscale are stated together or not at all.")
        if self.original_max_position_embeddings == 1:
            found.append("original_max_position_embeddings must be above 1.")
        for name in ("short_factor", "long_factor"):
            values = getattr(self, name)
            if rotary_dim and len(values) != rotary_dim // 2:
                found.append(f"{name} must have {rotary_dim // 2} numbers, one a pair, not {len(values)}.")
            if not all(math.isfinite(value) and value > 0 for value in values):
                found.append(f"{name} must hold finite numbers above 0.")
        return found
