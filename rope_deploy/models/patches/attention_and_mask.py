"""The attention that traced models and the reference both use.

transformers lets a model's attention be replaced by name. Ours is PyTorch's scaled_dot_product_attention with
two differences: the mask is always explicit (an implicit `is_causal` changes meaning with the cache length), and
grouped heads stay grouped (repeating keys per query head would hide the grouping from the graph). One call
becomes one `Attention` node, and the rotated query and key pass through here, which is where the taps listen.

Models with an indexer that picks what attention reads (DeepSeek sparse attention, MiniMax M3) put its choice into the
mask only for attentions they know by name; to any other they hand it over, and it goes into the mask here.

Shapes: query [B, N, S, H], key and value [B, Nkv, T, H], mask bool [B or 1, 1, S, T], True = attend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from inspect import signature
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel

from rope_deploy.errors import ModelError
from rope_deploy.models.module_tree import pretrained_parts
from rope_deploy.models.patches.held_once import held_once
from rope_deploy.models.patches.patch import Patch, changed
from rope_deploy.models.transformers_private import (
    ATTENTION_SETTING,
    ATTENTIONS,
    MASKS,
    causal_mask_function,
    sdpa_mask,
    supports_attention_backend,
)

NAME = "rope_deploy"
# What transformers' attentions may be given that changes their result and that ours does not do.
UNSUPPORTED = ("softcap", "s_aux", "sinks", "position_bias")
# Arguments of transformers' own mask, which ours is made of.
MASK_ARGUMENTS = {"allow_is_causal_skip", "allow_is_bidirectional_skip", "use_vmap", "mask_function", "q_offset"}

Listener = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor], None]
_listener: ContextVar[Listener | None] = ContextVar("attention_listener", default=None)
# Configurations whose attention a patch in place has chosen, by id: a setting "eager" does not say whose choice it is.
_chosen: dict[int, PreTrainedConfig] = {}


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener(module, query, key)` for every attention inside the block; key includes the past."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def attend(
    module,
    query,
    key,
    value,
    attention_mask,
    scaling=None,
    dropout=0.0,
    indices=None,
    block_indices=None,
    **others,
):
    """transformers' attention interface: returns ([B, S, N, H], None).

    Only the keys in `indices` [B, S, picked] are read, or those in the blocks `block_indices` [B, Nkv, S, picked], of
    `module.indexer.block_size` keys each; −1 picks nothing. Raises ModelError for what is not supported.
    """
    if given := [name for name in UNSUPPORTED if others.get(name) is not None]:
        raise ModelError(f"{type(module).__name__} gives its attention {', '.join(given)}, which is not supported.")
    if (listener := _listener.get()) is not None:
        listener(module, query, key)
    keys, grouped = key.shape[2], query.shape[1] != key.shape[1]
    if indices is not None:
        attention_mask = attention_mask & picked(indices[:, None], keys)
    if block_indices is not None:
        chosen = picked(block_indices, keys, module.indexer.block_size)
        attention_mask = attention_mask & chosen.repeat_interleave(query.shape[1] // chosen.shape[1], dim=1)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=grouped)
    return out.transpose(1, 2), None


def picked(numbers: torch.Tensor, keys: int, size: int = 1) -> torch.Tensor:
    """bool [B, N, S, keys]: whether a key lies in one of the blocks of `size` keys that `numbers` [B, N, S, picked]
    names; −1 names none."""
    blocks = (keys + size - 1) // size
    columns = numbers.long().masked_fill(numbers < 0, blocks)  # one column more, for what names none
    none = torch.zeros((*numbers.shape[:-1], blocks + 1), dtype=torch.bool, device=numbers.device)
    return none.scatter(-1, columns, True)[..., :blocks].repeat_interleave(size, dim=-1)[..., :keys]


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
    # Masks of transformers are made of indices, which broadcast; vmap cannot be traced where one closes over a tensor.
    kwargs.update(allow_is_causal_skip=False, allow_is_bidirectional_skip=False, use_vmap=False)
    mask = sdpa_mask(batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, None, **kwargs)
    if attention_mask is None:
        return mask
    # A plain slice and broadcast; sdpa_mask would index with two tensors, which becomes a GatherND.
    real = attention_mask[:, kv_offset : kv_offset + kv_length].to(torch.bool)
    return mask & real[:, None, None, :]


def replaceable(model: PreTrainedModel) -> bool:
    """Whether the attention of `model` can be replaced by ours; if not, it runs and is traced eagerly."""
    config = model.config.get_text_config()
    softcapped = getattr(config, "attn_logit_softcapping", None)
    sinks = any(name.endswith("sinks") for name, _ in model.named_parameters())
    return supports_attention_backend(model) and not softcapped and not sinks


def own_settings(model: torch.nn.Module) -> list[str]:
    """The configurations in `model` whose attention we chose: ours, or the eager one in place of another."""
    return [
        f"{type(one).__name__}.{ATTENTION_SETTING}"
        for one in _settings(model)
        if id(one) in _chosen or getattr(one, ATTENTION_SETTING, None) == NAME
    ]


def _settings(model: torch.nn.Module) -> list[PreTrainedConfig]:
    """Every configuration that a part of `model` reads, and those inside them."""
    found: dict[int, PreTrainedConfig] = {}

    def add(config: Any) -> None:
        if isinstance(config, PreTrainedConfig) and id(config) not in found:
            found[id(config)] = config
            for name in config.sub_configs:
                add(getattr(config, name, None))

    for part in model.modules():
        add(getattr(part, "config", None))
    return list(found.values())


@contextmanager
def _attention(model: torch.nn.Module, name: str, native: bool) -> Iterator[None]:
    """Inside the block the parts of `model` whose attention is `native` to us or not have the attention `name`."""
    with ExitStack() as stack:
        for config in _settings(model):
            if ATTENTION_SETTING in vars(config):
                stack.callback(setattr, config, ATTENTION_SETTING, getattr(config, ATTENTION_SETTING))
        for part in pretrained_parts(model):
            if replaceable(part) == native:
                part.set_attn_implementation(name)
                for config in _settings(part):
                    if getattr(config, ATTENTION_SETTING, None) == name:
                        _chosen[id(config)] = config
                        stack.callback(_chosen.pop, id(config), None)
        yield


@contextmanager
def _registered() -> Iterator[None]:
    """Inside the block transformers knows our attention and our mask by NAME."""
    _require_mask()
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, explicit_mask)
    try:
        yield
    finally:
        del ATTENTIONS[NAME], MASKS[NAME]


def _require_mask() -> None:
    """Raise EnvironmentMissing where transformers' own mask, which ours is made of, takes other arguments."""
    known = signature(sdpa_mask).parameters.keys()
    if lost := MASK_ARGUMENTS - known:
        raise changed(OWN_ATTENTION.name, f"sdpa_mask does not take {', '.join(sorted(lost))}", OWN_ATTENTION.versions)


@contextmanager
def _own(model: torch.nn.Module) -> Iterator[None]:
    with held_once(NAME, _registered), _attention(model, NAME, native=True):
        yield


OWN_ATTENTION = Patch(
    name="own-attention",
    scope="run",
    target="the attention and the mask that transformers looks up by name",
    reason="One Attention node a call, an explicit mask for every cache length, grouped heads that stay grouped.",
    versions=("transformers 5.23",),
    applies=lambda model: any(replaceable(part) for part in pretrained_parts(model)),
    apply=_own,
)

EAGER_ATTENTION = Patch(
    name="eager-attention",
    scope="run",
    target="the attention that transformers chose for a model whose attention cannot be replaced",
    reason="It has a softcap or sinks, or is older than the interface; eager is the code that all such models have.",
    versions=("transformers 5.23",),
    applies=lambda model: not all(replaceable(part) for part in pretrained_parts(model)),
    apply=lambda model: _attention(model, "eager", native=False),
)
