"""Mixture-of-experts layers as a graph can hold them: every expert sees every token, routing weighs the results.

transformers' own implementations sort tokens by expert, which needs sizes that depend on the data. Here the
experts are a batch axis of two matrix products, and a token's weight is zero for experts it was not routed to: the
same sum, with (experts / chosen) times the arithmetic.

    layer                 what is there to know it by          forward
    of the interface      _is_expert_parallel                  weights and activation in transformers' own words
    DBRX                  mlp.w1, mlp.v1, mlp.w2               all experts below one another in one matrix
    LongCat               identity_expert                      experts without weights pass a token on as it is
    JetMoE                input_linear, output_linear, router  two products; of an attention, queries have experts
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
    found = [(module, name, ours) for module in model.modules() for name, ours in _dense(module).items()]
    for module, name, ours in found:
        setattr(module, name, MethodType(ours, module))
    try:
        yield
    finally:
        for module, name, _ in found:
            delattr(module, name)


def _dense(module: torch.nn.Module) -> dict[str, Callable]:
    """What takes the place of `module`'s own methods; nothing for what is no expert layer."""
    if hasattr(module, "_is_expert_parallel"):
        return {"forward": _interface}
    kind = type(module).__name__
    if kind.endswith("Experts") and all(hasattr(getattr(module, "mlp", None), name) for name in ("w1", "v1", "w2")):
        return {"forward": _stacked}
    if kind.endswith("Experts") and hasattr(module, "identity_expert"):
        return {"forward": _with_identities}
    if not all(hasattr(module, name) for name in ("input_linear", "output_linear", "router")):
        return {}
    if hasattr(module, "map") and hasattr(module, "reduce"):
        return {"map": _map, "reduce": _reduce}
    return {"forward": _mixed} if hasattr(module.input_linear, "num_experts") else {}


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


def _routed(router: torch.nn.Module, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """JetMoE: hidden_states [B, S, H] -> the experts of a token and their weights, [T, K], and the logits [T, E]."""
    logits = router.layer(hidden_states.reshape(-1, hidden_states.shape[-1])).float()
    top_logits, chosen = logits.topk(router.top_k, dim=1)
    return chosen, torch.softmax(top_logits, dim=1).to(hidden_states.dtype), logits


def _mixed(self, layer_input: Tensor) -> Tensor:
    """JetMoE: layer_input [B, S, H] -> [B, S, H]."""
    chosen, top_weights, _ = _routed(self.router, layer_input)
    weights = _weights(chosen, top_weights, self.input_linear.num_experts)
    x = layer_input.reshape(1, -1, self.input_size)
    gate, up = (x @ self.input_linear.weight.transpose(1, 2)).chunk(2, dim=-1)
    out = (self.activation(gate) * up) @ self.output_linear.weight.transpose(1, 2)
    return (out * weights).sum(dim=0).reshape(layer_input.shape) + self.bias


def _map(self, layer_input: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """JetMoE's queries: layer_input [B, S, H] -> [B, S, K, Q], each by one of the token's experts; the logits; and
    what `_reduce` needs: where in [T, K, E] an expert was chosen, and the weights [T, K]."""
    chosen, weights, logits = _routed(self.router, layer_input)
    places = F.one_hot(chosen, self.num_experts).to(layer_input.dtype)
    queries = layer_input.reshape(1, -1, self.input_size) @ self.input_linear.weight.transpose(1, 2)
    picked = places @ queries.transpose(0, 1)
    return picked.reshape(*layer_input.shape[:2], self.top_k, -1), logits, (places, weights)


def _reduce(self, layer_input: Tensor, topo_info: tuple[Tensor, Tensor]) -> Tensor:
    """JetMoE's outputs: layer_input [B, S, K, Q], from `_map`'s queries, through the same experts -> [B, S, H]."""
    places, weights = topo_info
    rows = layer_input.reshape(-1, self.top_k, self.hidden_size) * weights.unsqueeze(-1)
    given = places.transpose(1, 2) @ rows  # [T, E, Q]
    out = given.transpose(0, 1) @ self.output_linear.weight.transpose(1, 2)
    return out.sum(dim=0).reshape(*layer_input.shape[:2], -1) + self.bias
