"""Layers that transformers computes in chunks of tokens, written as recurrences while a model is traced.

The functions are recognised by their arguments, in whatever file defines a part of the model: a new family keeps the
arguments of the kernels that these functions stand in for. Two layers loop inside their own forward, and are recognised
by their attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import signature
from types import FunctionType, MethodType

import torch
from torch import Tensor

from rope_deploy.models.patches.function_replacement import module_functions
from rope_deploy.models.patches.patch import Patch, Replacement, replaced
from rope_deploy.models.patches.recurrences import gated_average, gated_delta_rule, lightning_attention, mamba2

BY_ARGUMENTS = (
    ({"query", "key", "value", "g", "beta", "chunk_size", "initial_state"}, gated_delta_rule),
    ({"hidden_states", "dt", "A", "B", "C", "chunk_size", "initial_states"}, mamba2),
)
LIGHTNING = (
    "act_fn", "qkv_proj", "num_attention_heads", "head_dim", "layer_idx", "slope_rate", "norm", "output_gate",
    "out_proj",
)  # fmt: skip


def _replacements(model: torch.nn.Module) -> Iterator[Replacement]:
    for layer in model.modules():
        if hasattr(layer, "_rnn_scan"):
            yield Replacement(layer, "_rnn_scan", MethodType(_rg_lru, layer))
        elif hasattr(layer, "slope_rate") and hasattr(layer, "diagonal_decay"):
            yield Replacement(layer, "forward", MethodType(_lightning, layer), needs=LIGHTNING)
    for module, name, function in module_functions(model):
        if (ours := _recurrence(function)) is not None:
            yield Replacement(module, name, ours, ignores=("chunk_size",))


def _recurrence(function: FunctionType) -> Callable | None:
    taken = signature(function).parameters.keys()
    return next((ours for wanted, ours in BY_ARGUMENTS if wanted <= taken), None)


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


RECURRENT_SCANS = Patch(
    name="recurrent-scans",
    scope="trace",
    target="chunked scans of hybrid models (gated delta rule, Mamba2, lightning attention, RG-LRU)",
    reason="A tracer would freeze the number of chunks.",
    versions=("transformers 5.23",),
    applies=lambda model: any(True for _ in _replacements(model)),
    apply=lambda model: replaced(RECURRENT_SCANS.name, RECURRENT_SCANS.versions, list(_replacements(model))),
)
