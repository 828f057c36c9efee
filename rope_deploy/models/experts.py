"""Mixture-of-experts layers as a graph can hold them: every expert sees every token, routing weighs the results.

transformers' own implementations sort tokens by expert, which needs sizes that depend on the data. Here the
experts are a batch axis of two matrix products, and a token's weight is zero for experts it was not routed to: the
same sum, with (experts / chosen) times the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType

import torch


@contextmanager
def dense_experts(model: torch.nn.Module) -> Iterator[None]:
    """Inside the block every expert layer of `model` that transformers lets be replaced computes densely."""
    found = [module for module in model.modules() if hasattr(module, "_is_expert_parallel")]
    for module in found:
        module.forward = MethodType(_forward, module)
    try:
        yield
    finally:
        for module in found:
            del module.forward


def _forward(self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor) -> torch.Tensor:
    """hidden_states [T, H], top_k_index and top_k_weights [T, K] -> [T, H]."""
    experts = self.down_proj.shape[0]
    chosen = top_k_index.unsqueeze(-1) == torch.arange(experts, device=top_k_index.device)
    weights = (chosen * top_k_weights.unsqueeze(-1)).sum(dim=1)  # [T, E]
    up = "gate_up_proj" if self.has_gate else "up_proj"
    inner = _linear(self, up, hidden_states.unsqueeze(0))
    inner = self._apply_gate(inner) if self.has_gate else self.act_fn(inner)
    out = _linear(self, "down_proj", inner)
    if self.has_post_expert_norm:
        out = self.post_expert_norm(out)
    return (out * weights.t().unsqueeze(-1)).sum(dim=0).to(hidden_states.dtype)


def _linear(module: torch.nn.Module, name: str, x: torch.Tensor) -> torch.Tensor:
    """x [E or 1, T, in] through each expert's own layer: [E, T, out]."""
    weight = getattr(module, name)
    out = torch.matmul(x, weight if module.is_transposed else weight.transpose(1, 2))
    return out + getattr(module, f"{name}_bias").unsqueeze(1) if module.has_bias else out
