"""Griffin's recurrent blocks (RecurrentGemma) with their states in the cache, as those of every other recurrence.

transformers keeps the last inputs of the convolution and the state of the recurrence on the modules themselves: no
caller can pass them on, a second prompt finds what the first one left, and a prompt that comes in pieces loses the
convolution's.

Source: De et al., Griffin (arXiv 2402.19427).
"""

from __future__ import annotations

from functools import partial

import torch


def keep_states_in_cache(model: torch.nn.Module) -> int:
    """Replace the forward of every such block in `model`; returns how many there were."""
    blocks = {n: m for n, m in model.named_modules() if hasattr(m, "conv1d_state") and hasattr(m, "rg_lru")}
    for name, block in blocks.items():
        layer = next(int(part) for part in reversed(name.split(".")) if part.isdigit())
        block.forward = partial(_forward, block, layer)
    return len(blocks)


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
