"""Mixture-of-experts layers as a graph can hold them: every expert sees every token, routing weighs the results.

transformers' own implementations sort tokens by expert, which needs sizes that depend on the data. Here the
experts are a batch axis of two matrix products, and a token's weight is zero for experts it was not routed to: the
same sum, with (experts / chosen) times the arithmetic.

    layer                 recognised by                        forward
    of the interface      _is_expert_parallel                  weights and activation by transformers' own names
    DBRX                  mlp.w1, mlp.v1, mlp.w2               all experts below one another in one matrix
    LongCat               identity_expert                      experts without weights return a token as it is
    JetMoE                input_linear, output_linear, router  two products; in an attention, queries have experts
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import signature
from types import MethodType

import torch
from torch import Tensor
from torch.nn import functional as F

from rope_deploy.models.patches.patch import Patch, Replacement, replaced

INTERFACE = ("is_transposed", "has_gate", "has_bias", "has_post_expert_norm", "down_proj")
DBRX = ("num_experts", "ffn_hidden_size", "hidden_size")
LONGCAT = ("num_routed_experts", "total_experts", "gate_up_proj", "down_proj", "act_fn")
JETMOE = ("input_size", "activation", "bias")
JETMOE_ATTENTION = ("input_size", "num_experts", "top_k", "hidden_size", "bias")


def _replacements(model: torch.nn.Module) -> Iterator[Replacement]:
    for module in model.modules():
        methods, needs = _dense(module)
        for name, ours in methods.items():
            yield Replacement(module, name, MethodType(ours, module), needs)


def _dense(module: torch.nn.Module) -> tuple[dict[str, Callable], tuple[str, ...]]:
    """What replaces `module`'s own methods and the attributes it needs; nothing if it is no expert layer."""
    if hasattr(module, "_is_expert_parallel"):
        renamed = "router_indices" in signature(module.forward).parameters
        return {"forward": _interface_renamed if renamed else _interface}, INTERFACE
    kind = type(module).__name__
    if kind.endswith("Experts") and all(hasattr(getattr(module, "mlp", None), name) for name in ("w1", "v1", "w2")):
        return {"forward": _stacked}, DBRX
    if kind.endswith("Experts") and hasattr(module, "identity_expert"):
        return {"forward": _with_identities}, LONGCAT
    if not all(hasattr(module, name) for name in ("input_linear", "output_linear", "router")):
        return {}, ()
    if hasattr(module, "map") and hasattr(module, "reduce"):
        return {"map": _map, "reduce": _reduce}, JETMOE_ATTENTION
    return ({"forward": _mixed}, JETMOE) if hasattr(module.input_linear, "num_experts") else ({}, ())


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


def _interface_renamed(self, hidden_states: Tensor, router_indices: Tensor, routing_weights: Tensor) -> Tensor:
    """The same by the names that GPT-OSS gives the arguments."""
    return _interface(self, hidden_states, router_indices, routing_weights)


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
    what `_reduce` needs: the one-hot choice of experts [T, K, E], and the weights [T, K]."""
    chosen, weights, logits = _routed(self.router, layer_input)
    choice = F.one_hot(chosen, self.num_experts).to(layer_input.dtype)
    queries = layer_input.reshape(1, -1, self.input_size) @ self.input_linear.weight.transpose(1, 2)
    picked = choice @ queries.transpose(0, 1)
    return picked.reshape(*layer_input.shape[:2], self.top_k, -1), logits, (choice, weights)


def _reduce(self, layer_input: Tensor, topo_info: tuple[Tensor, Tensor]) -> Tensor:
    """JetMoE's outputs: layer_input [B, S, K, Q], from `_map`'s queries, through the same experts -> [B, S, H]."""
    choice, weights = topo_info
    rows = layer_input.reshape(-1, self.top_k, self.hidden_size) * weights.unsqueeze(-1)
    given = choice.transpose(1, 2) @ rows  # [T, E, Q]
    out = given.transpose(0, 1) @ self.output_linear.weight.transpose(1, 2)
    return out.sum(dim=0).reshape(*layer_input.shape[:2], -1) + self.bias


DENSE_EXPERTS = Patch(
    name="dense-experts",
    scope="trace",
    target="the forward of expert layers (transformers' experts interface, DBRX, LongCat, JetMoE)",
    reason="Sorting tokens by expert needs sizes that depend on the data, which no graph has.",
    versions=("transformers 5.23",),
    applies=lambda model: any(_dense(module)[0] for module in model.modules()),
    apply=lambda model: replaced(DENSE_EXPERTS.name, DENSE_EXPERTS.versions, _replacements(model)),
)
