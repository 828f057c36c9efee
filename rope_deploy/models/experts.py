"""Mixture-of-experts layers as a graph can hold them: every expert sees every token, routing weighs the results.

transformers' own implementations sort tokens by expert, which needs sizes that depend on the data. Here the
experts are a batch axis of two matrix products, and a token's weight is zero for experts it was not routed to: the
same sum, with (experts / chosen) times the arithmetic.

    layer                 what is there to know it by          forward
    of the interface      _is_expert_parallel                  weights and activation in transformers' own words
    DBRX                  mlp.w1, mlp.v1, mlp.w2               all experts below one another in one matrix
    LongCat               identity_expert                      experts without weights pass a token on as it is
    parallel experts      a weight [E, out, in], no more       one product; which rows an expert gets is told by
    and their gate        top_k, layer                         the gate, which here leaves rows where they are
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType

import torch
from torch import Tensor
from torch.nn import functional as F


@contextmanager
def dense_experts(model: torch.nn.Module) -> Iterator[None]:
    """Inside the block every expert layer of `model` computes densely."""
    found = [(module, forward) for module in model.modules() if (forward := _dense(module)) is not None]
    for module, forward in found:
        module.forward = MethodType(forward, module)
    try:
        yield
    finally:
        for module, _ in found:
            del module.forward


def _dense(module: torch.nn.Module) -> Callable | None:
    """The forward that takes the place of `module`'s own; None for what is no expert layer."""
    if hasattr(module, "_is_expert_parallel"):
        return _interface
    kind = type(module).__name__
    if kind.endswith("Experts") and all(hasattr(getattr(module, "mlp", None), name) for name in ("w1", "v1", "w2")):
        return _stacked
    if kind.endswith("Experts") and hasattr(module, "identity_expert"):
        return _with_identities
    if kind.endswith("ParallelExperts"):
        return _parallel
    return _gate if kind.endswith("TopKGating") else None


def _weights(top_k_index: Tensor, top_k_weights: Tensor, experts: int) -> Tensor:
    """top_k_index and top_k_weights [T, K] -> [E, T, 1], zero where a token was not routed to an expert."""
    chosen = top_k_index.unsqueeze(-1) == torch.arange(experts, device=top_k_index.device)
    return (chosen * top_k_weights.unsqueeze(-1)).sum(dim=1).t().unsqueeze(-1)


def _interface(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """hidden_states [T, H], top_k_index and top_k_weights [T, K] -> [T, H]."""
    weights = _weights(top_k_index, top_k_weights, self.down_proj.shape[0])
    up = "gate_up_proj" if self.has_gate else "up_proj"
    inner = _linear(self, up, hidden_states.unsqueeze(0))
    inner = self._apply_gate(inner) if self.has_gate else self.act_fn(inner)
    out = _linear(self, "down_proj", inner)
    if self.has_post_expert_norm:
        out = self.post_expert_norm(out)
    return (out * weights).sum(dim=0).to(hidden_states.dtype)


def _linear(module: torch.nn.Module, name: str, x: Tensor) -> Tensor:
    """x [E or 1, T, in] through each expert's own layer: [E, T, out]."""
    weight = getattr(module, name)
    out = torch.matmul(x, weight if module.is_transposed else weight.transpose(1, 2))
    return out + getattr(module, f"{name}_bias").unsqueeze(1) if module.has_bias else out


def _stacked(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """DBRX: hidden_states [B, S, H], top_k_index and top_k_weights [B S, K] -> [B, S, H]."""
    shape = (self.num_experts, self.ffn_hidden_size, self.hidden_size)
    w1, v1, w2 = (getattr(self.mlp, name).view(shape) for name in ("w1", "v1", "w2"))
    x = hidden_states.reshape(1, -1, self.hidden_size)
    inner = self.mlp.activation_fn(x @ w1.transpose(1, 2)) * (x @ v1.transpose(1, 2))
    out = (inner @ w2 * _weights(top_k_index, top_k_weights, self.num_experts)).sum(dim=0)
    return out.reshape(hidden_states.shape)


def _with_identities(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """LongCat: as the interface's; the experts after `num_routed_experts` return what they are given."""
    weights = _weights(top_k_index, top_k_weights, self.total_experts)
    out = hidden_states * weights[self.num_routed_experts :].sum(dim=0)
    if self.num_routed_experts:
        up = self.gate_up_proj[: self.num_routed_experts].transpose(1, 2)
        gate, up = (hidden_states.unsqueeze(0) @ up).chunk(2, dim=-1)
        made = (self.act_fn(gate) * up) @ self.down_proj.transpose(1, 2)
        out = out + (made * weights[: self.num_routed_experts]).sum(dim=0)
    return out.to(hidden_states.dtype)


def _gate(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Routing that leaves rows in their order: hidden_states [T, H] -> where each of the T K rows goes, the token it
    comes from, its weight, its expert (in place of the number of rows an expert gets), and the logits [T, E]."""
    logits = self.layer(hidden_states).float()
    top_logits, experts = logits.topk(self.top_k, dim=1)
    weights = torch.softmax(top_logits, dim=1).type_as(hidden_states)
    order = torch.arange(experts.numel(), device=experts.device)
    token = torch.div(order, self.top_k, rounding_mode="floor")
    return order, token, weights.flatten(), experts.flatten(), logits


def _parallel(self, inputs: Tensor, experts: Tensor) -> Tensor:
    """inputs [R, in], experts [R], each row's own -> [R, out]."""
    chosen = F.one_hot(experts, self.weight.shape[0]).t().unsqueeze(-1)
    return (inputs.unsqueeze(0) @ self.weight.transpose(1, 2) * chosen).sum(dim=0)
