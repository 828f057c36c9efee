"""NTK-aware scaling by a stated alpha: a larger base, the same for every length (bloc97 on r/LocalLLaMA, 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rope_deploy.rope.rules.base import RuleInput, Scaling, exponent_width, positive, wavelengths


@dataclass(frozen=True)
class NtkAlpha(Scaling):
    """transformers' `compute_ntk_alpha_rope_parameters` of Hunyuan: base = rope_theta · alpha ** (width / (width − 2)).

    Configurations call it "dynamic" and add `alpha`; its frequencies do not depend on the length, so it has a name of
    its own here, as in transformers' module.
    """

    alpha: float

    rope_type: ClassVar[str] = "ntk_alpha"

    def inv_freq(self, spec: RuleInput, seq_len: int | None = None, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        width = exponent_width(spec)
        return 1 / wavelengths(spec, dtype, spec.rope_theta * self.alpha ** (width / (width - 2)))

    def faults(self, rotary_dim: int) -> list[str]:
        found = positive(self, "alpha")
        return found + (["alpha needs a rotary dimension above 2."] if 0 < rotary_dim <= 2 else [])
