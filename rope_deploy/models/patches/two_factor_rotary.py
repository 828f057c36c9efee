"""Phi-3.5-MoE's rotary module chooses its factor on cos and sin by the length of the call in a tensor operation.

transformers' own (`PhimoeRotaryEmbedding`) branches on the length in Python, which no tracer follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType

import torch

from rope_deploy.models.patches.patch import Patch, Replacement, replaced
from rope_deploy.rope.family_facts import TWO_MSCALES


def _has_two_factors(module: torch.nn.Module) -> bool:
    config = getattr(module, "config", None)
    if getattr(config, "model_type", None) not in TWO_MSCALES or not hasattr(module, "rope_init_fn"):
        return False
    return {"short_mscale", "long_mscale"} <= (config.rope_parameters or {}).keys()


def _replacements(model: torch.nn.Module) -> Iterator[Replacement]:
    for module in model.modules():
        if _has_two_factors(module):
            yield Replacement(module, "forward", MethodType(_forward, module))


@torch.no_grad()
def _forward(self, x: torch.Tensor, position_ids: torch.Tensor):
    """What the module's forward returns for position_ids [B, S]."""
    rule = self.config.rope_parameters
    inv_freq, _ = self.rope_init_fn(self.config)
    longer = position_ids.max() + 1 > rule["original_max_position_embeddings"]
    factor = torch.where(longer, rule["long_mscale"], rule["short_mscale"])
    angles = position_ids[..., None].float() * inv_freq.to(device=x.device, dtype=torch.float)
    angles = torch.cat((angles, angles), dim=-1)
    return (angles.cos() * factor).to(x.dtype), (angles.sin() * factor).to(x.dtype)


TWO_FACTOR_ROTARY = Patch(
    name="two-factor-rotary",
    scope="run",
    target="PhimoeRotaryEmbedding.forward",
    reason="It branches on the length of the call in Python.",
    versions=("transformers 5.23",),
    applies=lambda model: any(map(_has_two_factors, model.modules())),
    apply=lambda model: replaced(TWO_FACTOR_ROTARY.name, TWO_FACTOR_ROTARY.versions, _replacements(model)),
)
