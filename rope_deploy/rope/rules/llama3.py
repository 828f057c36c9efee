"""Llama 3.1's rule, by wavelength (Llama Team 2024, https://arxiv.org/abs/2407.21783; meta-llama/llama-models)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rope_deploy.rope.rules.base import RuleInput, Scaling, positive, wavelengths


@dataclass(frozen=True)
class Llama3(Scaling):
    """transformers' `_compute_llama3_parameters`.

    Wavelengths longer than original / low_freq_factor are stretched by `factor`, those shorter than
    original / high_freq_factor are kept, those between are blended.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    rope_type: ClassVar[str] = "llama3"

    def inv_freq(self, spec: RuleInput, seq_len: int | None = None, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        inv_freq = 1 / wavelengths(spec, dtype)
        # A number over a tensor is, in PyTorch, the number times the tensor's reciprocal: two roundings.
        wavelength = (1 / inv_freq) * inv_freq.dtype.type(2 * math.pi)
        original, low, high = self.original_max_position_embeddings, self.low_freq_factor, self.high_freq_factor
        slow, fast = wavelength > original / low, wavelength < original / high

        stretched = np.where(slow, inv_freq / self.factor, inv_freq)
        if high == low:  # Llama 4 Scout: no pair lies between
            return stretched
        smooth = ((1 / wavelength) * original - low) / (high - low)
        blended = (1 - smooth) * stretched / self.factor + smooth * stretched
        return np.where(slow | fast, stretched, blended)

    @classmethod
    def complete(cls, values: Mapping[str, Any], max_position: int) -> dict[str, Any]:
        return {"original_max_position_embeddings": max_position, **values}

    def faults(self, rotary_dim: int) -> list[str]:
        found = positive(self, "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        if self.high_freq_factor < self.low_freq_factor:
            found.append("high_freq_factor must not be below low_freq_factor.")
        return found
