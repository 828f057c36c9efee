"""Griffin's recurrent blocks (RecurrentGemma) with their states in the cache, as those of every other recurrence.

transformers keeps the last inputs of the convolution and the state of the recurrence on the modules themselves: no
caller can pass them on, a second prompt finds what the first one left, and a prompt that comes in pieces loses the
convolution's.

Source: De et al., Griffin (arXiv 2402.19427).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from rope_deploy.models.patches.patch import Patch, Replacement, replaced

BLOCK = ("linear_y", "linear_x", "act_fn", "conv_1d", "conv1d_width", "rg_lru", "linear_out")


def _blocks(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The recurrent blocks of `model` by their names."""
    found = model.named_modules()
    return {name: one for name, one in found if hasattr(one, "conv1d_state") and hasattr(one, "rg_lru")}


def _replacements(model: torch.nn.Module) -> Iterator[Replacement]:
    for name, block in _blocks(model).items():
        layer = next(int(part) for part in reversed(name.split(".")) if part.isdigit())
        yield Replacement(block, "forward", partial(_forward, block, layer), needs=BLOCK)


def _forward(
    block: torch.nn.Module,
    layer: int,
    input_states: torch.Tensor,
    position_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    use_cache: bool = True,
    past_key_values=None,
    **_,
) -> tuple[torch.Tensor, None]:
    """input_states [B, S, H], position_ids [B, S] -> [B, S, H]. The cache keeps the last inputs of the convolution,
    [B, W, K - 1], and the state of the recurrence, [B, W]."""
    gate = block.act_fn(block.linear_y(input_states))
    x = block.linear_x(input_states).transpose(1, 2)
    tokens, state = x.shape[-1], None
    if past_key_values is not None:
        state = past_key_values.get_recurrent_state(layer)
        x = past_key_values.update_conv_state(x, layer, conv_kernel_size=block.conv1d_width - 1)
    x = block.conv_1d(x)[..., : x.shape[-1]][..., -tokens:].transpose(1, 2)
    block.rg_lru.recurrent_states = state
    x = block.rg_lru(x, position_ids)
    if past_key_values is not None:
        past_key_values.update_recurrent_state(block.rg_lru.recurrent_states, layer)
    block.rg_lru.recurrent_states = None
    return block.linear_out(x * gate), None


GRIFFIN_STATES = Patch(
    name="griffin-states",
    scope="run",
    target="RecurrentGemmaRecurrentBlock.forward",
    reason="transformers keeps the states on the modules, where no caller can pass them on.",
    versions=("transformers 5.23",),
    applies=lambda model: bool(_blocks(model)),
    apply=lambda model: replaced(GRIFFIN_STATES.name, GRIFFIN_STATES.versions, _replacements(model)),
)
