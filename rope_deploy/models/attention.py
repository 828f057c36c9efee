"""The attention that traced models and the reference both use.

transformers lets a model's attention be replaced by name. Ours is PyTorch's scaled_dot_product_attention with
two differences: the mask is always explicit (an implicit `is_causal` changes meaning with the cache length), and
grouped heads stay grouped (repeating keys per query head would hide the grouping from the graph). One call
becomes one `Attention` node, and the rotated query and key pass through here, which is where the taps listen.

Shapes: query [B, N, S, H], key and value [B, Nkv, T, H], mask bool [B or 1, 1, S, T], True = attend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import causal_mask_function, sdpa_mask

NAME = "rope_deploy"
UNSUPPORTED = ("softcap", "s_aux")

Listener = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor], None]
_listener: ContextVar[Listener | None] = ContextVar("attention_listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener(module, query, key)` for every attention inside the block; key includes the past."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def attend(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **_):
    """transformers' attention interface: returns ([B, S, N, H], None)."""
    if (listener := _listener.get()) is not None:
        listener(module, query, key)
    grouped = query.shape[1] != key.shape[1]
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=grouped)
    return out.transpose(1, 2), None


def explicit_mask(
    batch_size,
    q_length,
    kv_length,
    q_offset=0,
    kv_offset=0,
    mask_function=causal_mask_function,
    attention_mask=None,
    **kwargs,
):
    """transformers' mask interface: the full boolean mask, padding included, never None."""
    kwargs.update(allow_is_causal_skip=False, allow_is_bidirectional_skip=False)
    mask = sdpa_mask(batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, None, **kwargs)
    if attention_mask is None:
        return mask
    # A plain slice and broadcast; sdpa_mask would index with two tensors, which becomes a GatherND.
    real = attention_mask[:, kv_offset : kv_offset + kv_length].to(torch.bool)
    return mask & real[:, None, None, :]


def use_own_attention(model: PreTrainedModel) -> bool:
    """Switch `model` to the attention above; False where its attention cannot be replaced (it then runs eagerly)."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, explicit_mask)
    config = model.config.get_text_config()
    softcapped = getattr(config, "attn_logit_softcapping", None)
    sinks = any(name.endswith("sinks") for name, _ in model.named_parameters())
    if getattr(model, "_supports_attention_backend", False) and not softcapped and not sinks:
        model.set_attn_implementation(NAME)
        return True
    model.set_attn_implementation("eager")
    return False
