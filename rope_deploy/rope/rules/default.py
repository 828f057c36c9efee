"""No scaling: RoFormer (Su et al. 2021, https://arxiv.org/abs/2104.09864)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rope_deploy.rope.rules.base import RuleInput, Scaling, wavelengths


@dataclass(frozen=True)
class Default(Scaling):
    """inv_freq[i] = theta ** (-2i / rotary_dim); `compute_default_rope_parameters` of transformers' modules."""

    rope_type: ClassVar[str] = "default"

    def inv_freq(self, spec: RuleInput, seq_len: int | None = None, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        return 1 / wavelengths(spec, dtype)
