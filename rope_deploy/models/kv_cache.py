"""The cache of a decoder as flat, named tensors, whatever its layers keep.

A name is "{layer}.{part}". Parts that grow have a row per token; states have a fixed size:

    key, value      [B, Nkv, T, H]   attention
    indexer         [B, T, D]        keys of an indexer that picks what attention reads (DeepSeek sparse attention)
    index           [B, 1, T, D]     the same in MiniMax M3
    conv, conv_1 …  [B, C, K]        the last K inputs of a causal convolution
    recurrent …     [B, …]           the state of a recurrence: Mamba, the gated delta rule, lightning attention

Layers with a sliding window keep every key here: the mask does the windowing, and one graph serves every length.
Source of the layers: transformers.cache_utils.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

import torch
from transformers import DynamicCache

from rope_deploy.errors import ModelError
from rope_deploy.models.transformers_private import (
    DYNAMIC_LAYER_TYPE_MAPPING,
    Cache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
    get_layer_types_and_kwargs,
)

# The axis that has a row per token, of the parts that grow.
GROWING = {"key": 2, "value": 2, "indexer": 1, "index": 2}


def new_cache(model: torch.nn.Module, past: Mapping[str, torch.Tensor] | None = None, *, traced: bool = False) -> Cache:
    """The cache that `model` wants, holding `past`; without any it is that of a first prompt.

    With `traced`, states are replaced instead of overwritten, and are read in every call, so that one graph serves
    the first prompt (all zeros) and what follows it.
    """
    own = _own_cache(model)
    cache = DynamicCache() if own is None else own  # empty, it counts as false
    if kinds := _kinds(model):
        cache.layers = [(_TRACED.get(kind, kind) if traced else kind)(**options) for kind, options in kinds]
        cache.layer_class_to_replicate = None
    if hasattr(cache, "linear_cache"):
        cache.linear_cache = [None] * len(cache.layers)
    for name, tensor in (past or {}).items():
        layer, part = name.split(".")
        _fill(cache, int(layer), part, tensor if traced else tensor.clone())
    return cache


def flat(cache: Cache) -> dict[str, torch.Tensor]:
    """What `cache` holds, by name."""
    return {f"{number}.{part}": tensor for number in range(len(cache)) for part, tensor in _parts(cache, number)}


def _parts(cache: Cache, number: int) -> Iterator[tuple[str, torch.Tensor]]:
    layer = cache.layers[number] if number < len(cache.layers) else None
    if getattr(layer, "keys", None) is not None:
        yield "key", layer.keys
        yield "value", layer.values
    if getattr(layer, "indexer_keys", None) is not None:
        yield "indexer", layer.indexer_keys
    if getattr(layer, "idx_keys", None) is not None:
        yield "index", layer.idx_keys
    for part, states in (("conv", "conv_states"), ("recurrent", "recurrent_states")):
        for index, state in getattr(layer, states, {}).items():
            if state is not None:
                yield (f"{part}_{index}" if index else part), state
    memories = getattr(cache, "linear_cache", [])
    if number < len(memories) and isinstance(memories[number], torch.Tensor):
        yield "recurrent", memories[number]


def _fill(cache: Cache, number: int, part: str, tensor: torch.Tensor) -> None:
    while number >= len(cache.layers):
        cache.layers.append(DynamicLayer())
    layer = cache.layers[number]
    kind, _, index = part.partition("_")
    if part in ("key", "value"):
        if not layer.is_initialized:
            DynamicLayer.lazy_initialization(layer, tensor, tensor)
        setattr(layer, f"{part}s", tensor)
    elif part == "indexer":
        layer.lazy_initialization_indexer(tensor)
        layer.indexer_keys = tensor
    elif part == "index":
        layer.idx_keys = tensor
    elif hasattr(cache, "set_linear_cache"):
        cache.set_linear_cache(number, tensor)
    elif kind == "conv":
        _take_conv(layer, int(index or 0), tensor)
    else:
        state = int(index or 0)
        layer.recurrent_states[state], layer.is_recurrent_states_initialized[state] = tensor, True
        layer.has_previous_state[state] = True


def _take_conv(layer: LinearAttentionLayer, index: int, state: torch.Tensor) -> None:
    layer.conv_states[index], layer.is_conv_states_initialized[index] = state, True
    layer.conv_kernel_size[index], layer.has_previous_state[index] = state.shape[-1], True
    layer.dtype, layer.device = state.dtype, state.device


class _Replaced(LinearAttentionLayer):
    """States as values: a traced program writes into nothing that it was given."""

    def update_conv_state(self, conv_states: torch.Tensor, state_idx: int = 0, **kwargs) -> torch.Tensor:
        kept = self.conv_states[state_idx]
        inputs = torch.cat([kept, conv_states.to(kept.dtype)], dim=-1)
        self.conv_states[state_idx] = inputs[..., -kept.shape[-1] :]
        return inputs

    def update_recurrent_state(self, recurrent_states: torch.Tensor, state_idx: int = 0, **kwargs) -> torch.Tensor:
        self.recurrent_states[state_idx] = recurrent_states.to(self.recurrent_states[state_idx].dtype)
        return self.recurrent_states[state_idx]


class _ReplacedBesideAttention(_Replaced, LinearAttentionAndFullAttentionLayer):
    """Both in one layer."""


_TRACED = {
    LinearAttentionLayer: _Replaced,
    LinearAttentionAndFullAttentionLayer: _ReplacedBesideAttention,
}


def _kinds(model: torch.nn.Module) -> list[tuple[type, dict[str, int]]]:
    """The class of every layer's cache and what it is made with.

    [] where all keep keys and values alone: then transformers makes layers as they are needed.
    """
    config = getattr(model, "config", None)
    if not hasattr(config, "get_text_config"):
        return []
    names, options = get_layer_types_and_kwargs(config.get_text_config(decoder=True))
    kinds = [_keeping_all(DYNAMIC_LAYER_TYPE_MAPPING.get(name, DynamicLayer)) for name in names]
    if all(kind is DynamicLayer for kind in kinds):
        return []
    wanted = ({key: value for key, value in one.items() if key == "number_of_states"} for one in options)
    return list(zip(kinds, wanted, strict=True))


def _keeping_all(kind: type) -> type:
    """The class that keeps all keys and otherwise the same. Raises ModelError for one that does not keep all of what it
    was given, by a rule of its own (Unlimited OCR: the prompt and a window)."""
    if issubclass(kind, LinearAttentionCacheLayerMixin):
        return LinearAttentionAndFullAttentionLayer if issubclass(kind, DynamicLayer) else LinearAttentionLayer
    if kind is DynamicSlidingWindowLayer:
        return DynamicLayer
    if issubclass(kind, DynamicSlidingWindowLayer):
        raise ModelError(f"A {kind.__name__} forgets keys by a rule of its own, which is not supported.")
    return kind


def _own_cache(model: torch.nn.Module) -> Cache | None:
    """A cache that the model's own file defines beside it and that it insists on (MiniMax)."""
    module = sys.modules[type(model).__module__]
    for found in vars(module).values():
        if isinstance(found, type) and issubclass(found, DynamicCache) and found.__module__ == module.__name__:
            return found()
    return None
