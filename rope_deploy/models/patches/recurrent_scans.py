"""Layers that transformers computes in chunks of tokens, put as recurrences while a model is traced.

The functions are found by what they take, in whatever file defines a part of the model: a family that is new keeps
the arguments of the kernels that these functions stand in for. Two layers loop inside their own forward, and are
known by what they have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from types import FunctionType, MethodType

import torch
from torch import Tensor

from rope_deploy.models.patches.recurrences import gated_average, gated_delta_rule, lightning_attention, mamba2
from rope_deploy.models.patches.replaced_functions import functions_replaced

TAKING = (
    ({"query", "key", "value", "g", "beta", "chunk_size", "initial_state"}, gated_delta_rule),
    ({"hidden_states", "dt", "A", "B", "C", "chunk_size", "initial_states"}, mamba2),
)


@contextmanager
def recurrent_scans(model: torch.nn.Module) -> Iterator[None]:
    """Inside the block every such function and layer of `model` takes any number of tokens."""
    layers = [(layer, *found) for layer in model.modules() if (found := _looping(layer)) is not None]
    for layer, name, ours in layers:
        setattr(layer, name, MethodType(ours, layer))
    try:
        with functions_replaced(model, lambda _, function: _recurrence(function)):
            yield
    finally:
        for layer, name, _ in layers:
            delattr(layer, name)


def _recurrence(function: FunctionType) -> Callable | None:
    taken = signature(function).parameters.keys()
    return next((ours for wanted, ours in TAKING if wanted <= taken), None)


def _looping(layer: torch.nn.Module) -> tuple[str, Callable] | None:
    """The method of `layer` that loops over tokens, and what takes its place."""
    if hasattr(layer, "_rnn_scan"):
        return "_rnn_scan", _rg_lru
    if hasattr(layer, "slope_rate") and hasattr(layer, "diagonal_decay"):
        return "forward", _lightning
    return None


def _rg_lru(
    self, hidden_states: Tensor, recurrent_gate: Tensor, reset: Tensor, recurrent_states: Tensor | None, **_
) -> tuple[Tensor, Tensor]:
    """hidden_states and recurrent_gate [B, S, W], reset [B, S, 1], recurrent_states [B, W]: as the layer's own."""
    return gated_average(hidden_states, recurrent_gate * ~reset, recurrent_states)


def _lightning(
    self,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    attention_mask: Tensor | None = None,
    past_key_values=None,
    **_,
) -> tuple[Tensor, None]:
    """MiniMax: hidden_states [B, S, H], attention_mask [B, S] -> [B, S, H]."""
    qkv = self.act_fn(self.qkv_proj(hidden_states))
    if attention_mask is not None:
        qkv = qkv * attention_mask[:, :, None].to(qkv.dtype)
    query, key, value = qkv.unflatten(-1, (self.num_attention_heads, -1)).split(self.head_dim, dim=-1)
    state = None if past_key_values is None else past_key_values.get_linear_cache(self.layer_idx)
    out, state = lightning_attention(query, key, value, self.slope_rate, state)
    if past_key_values is not None:
        past_key_values.set_linear_cache(self.layer_idx, state)
    out = self.norm(out.flatten(2)) * torch.sigmoid(self.output_gate(hidden_states))
    return self.out_proj(out), None
