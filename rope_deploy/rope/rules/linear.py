"""Position interpolation: Chen et al. 2023 (https://arxiv.org/abs/2306.15595) and kaiokendev's SuperHOT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rope_deploy.rope.rules.base import RuleInput, Scaling, positive, wavelengths


@dataclass(frozen=True)
class Linear(Scaling):
    """All frequencies divided by `factor`; transformers' `_compute_linear_scaling_rope_parameters`."""

    factor: float

    rope_type: ClassVar[str] = "linear"

    def inv_freq(self, spec: RuleInput, seq_len: int | None = None, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        return (1 / wavelengths(spec, dtype)) / self.factor

    def faults(self, rotary_dim: int) -> list[str]:
        return positive(self, "factor")
