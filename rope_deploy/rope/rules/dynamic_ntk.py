"""Dynamic NTK: a base that grows with the sequence (bloc97 and emozilla on r/LocalLLaMA, 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rope_deploy.rope.rules.base import RuleInput, Scaling, exponent_width, positive, wavelengths


@dataclass(frozen=True)
class DynamicNTK(Scaling):
    """transformers' `_compute_dynamic_ntk_parameters`, with the base computed in fp64 as for an `int` length.

    Inside a running model the length is a tensor and transformers computes the base in fp32 instead, so beyond
    the threshold its frequencies differ from these by some parts in 10⁷.

    `max_position_embeddings` is the configuration's: up to that many tokens nothing is scaled. (transformers
    does not read `original_max_position_embeddings` here.)
    """

    factor: float
    max_position_embeddings: int

    rope_type: ClassVar[str] = "dynamic"
    depends_on_length: ClassVar[bool] = True

    @property
    def threshold(self) -> int:
        return self.max_position_embeddings

    def inv_freq(self, spec: RuleInput, seq_len: int | None = None, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        length = max(seq_len or 0, self.max_position_embeddings)
        growth = (self.factor * length / self.max_position_embeddings) - (self.factor - 1)
        width = exponent_width(spec)
        theta = spec.rope_theta * growth ** (width / (width - 2))
        return 1 / wavelengths(spec, dtype, theta)

    @classmethod
    def complete(cls, values: Mapping[str, Any], max_position: int) -> dict[str, Any]:
        return {**values, "max_position_embeddings": max_position}

    def faults(self, rotary_dim: int) -> list[str]:
        found = positive(self, "factor", "max_position_embeddings")
        return found + (["dynamic scaling needs a rotary dimension above 2."] if 0 < rotary_dim <= 2 else [])
