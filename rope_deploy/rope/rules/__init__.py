"""The scaling rules, by the name Hugging Face gives them. A new one: a file here, its test, a line below."""

from __future__ import annotations

from rope_deploy.rope.rules.base import Scaling
from rope_deploy.rope.rules.default import Default
from rope_deploy.rope.rules.dynamic_ntk import DynamicNTK
from rope_deploy.rope.rules.linear import Linear
from rope_deploy.rope.rules.llama3 import Llama3
from rope_deploy.rope.rules.longrope import LongRope
from rope_deploy.rope.rules.ntk_alpha import NtkAlpha
from rope_deploy.rope.rules.proportional import Proportional
from rope_deploy.rope.rules.yarn import Yarn

RULES: dict[str, type[Scaling]] = {
    "default": Default,
    "linear": Linear,
    "dynamic": DynamicNTK,
    "yarn": Yarn,
    "longrope": LongRope,
    "llama3": Llama3,
    "proportional": Proportional,
    "ntk_alpha": NtkAlpha,
}

__all__ = [
    "RULES",
    "Default",
    "DynamicNTK",
    "Linear",
    "Llama3",
    "LongRope",
    "NtkAlpha",
    "Proportional",
    "Scaling",
    "Yarn",
]
