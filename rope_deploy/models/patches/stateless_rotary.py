"""Rotations without memory: dynamic NTK as it can be traced, and models that a trace leaves as they were.

transformers keeps the longest length seen so far on the module and branches on it in Python; a tracer either
refuses that branch or freezes it at the traced length. The rule itself needs no memory: the frequencies follow
from the length of the call alone. Here they are computed from it in tensor operations, in transformers' own
order, and handed to the module's own forward, which knows how its family lays out cos and sin.

Phi-3.5-MoE's rotary module (`PhimoeRotaryEmbedding`, transformers 5.23) chooses its factor on cos and sin by the length
of the call in Python too; here a tensor operation does.

Source: the "dynamic" entry of transformers' ROPE_INIT_FUNCTIONS (dynamic NTK scaling by u/bloc97 and u/emozilla).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import unwrap
from types import MethodType
from typing import Any

import torch

from rope_deploy.rope.family_facts import TWO_MSCALES


def make_stateless(model: torch.nn.Module) -> int:
    """Replace the forward of every rotary module in `model` that branches on the length in Python, also of those with a
    rule per layer type; returns how many there were."""
    found = 0
    for module in model.modules():
        forward = _forward if _is_dynamic(module) else _with_two_factors if _has_two_factors(module) else None
        if forward is not None:
            module.forward, found = MethodType(forward, module), found + 1
    return found


def _is_dynamic(module: torch.nn.Module) -> bool:
    rule = getattr(module, "rope_type", None)
    kinds = rule.values() if isinstance(rule, dict) else (rule,)
    return "dynamic" in kinds and any(name.endswith("inv_freq") for name, _ in module.named_buffers(recurse=False))


def _has_two_factors(module: torch.nn.Module) -> bool:
    config = getattr(module, "config", None)
    if getattr(config, "model_type", None) not in TWO_MSCALES or not hasattr(module, "rope_init_fn"):
        return False
    return {"short_mscale", "long_mscale"} <= (config.rope_parameters or {}).keys()


@torch.no_grad()
def _with_two_factors(self, x: torch.Tensor, position_ids: torch.Tensor):
    """What the module's forward returns for position_ids [B, S]."""
    rule = self.config.rope_parameters
    inv_freq, _ = self.rope_init_fn(self.config)
    longer = position_ids.max() + 1 > rule["original_max_position_embeddings"]
    factor = torch.where(longer, rule["long_mscale"], rule["short_mscale"])
    angles = position_ids[..., None].float() * inv_freq.to(device=x.device, dtype=torch.float)
    angles = torch.cat((angles, angles), dim=-1)
    return (angles.cos() * factor).to(x.dtype), (angles.sin() * factor).to(x.dtype)


class _With:
    """A module seen with other frequencies: writing them to it would carry a traced tensor out of the trace."""

    def __init__(self, module: torch.nn.Module, name: str, inv_freq: torch.Tensor):
        self._module = module
        setattr(self, name, inv_freq)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@torch.no_grad()
def _forward(self, x: torch.Tensor, position_ids: torch.Tensor, layer_type: str | None = None):
    """What the module's forward returns for position_ids [B, S], without reading or writing its state."""
    chosen = {} if layer_type is None else {"layer_type": layer_type}
    if chosen and self.rope_type[layer_type] != "dynamic":
        return type(self).forward(self, x, position_ids, **chosen)
    prefix = f"{layer_type}_" if chosen else ""
    rule = self.config.rope_parameters[layer_type] if chosen else self.config.rope_parameters
    inv_freq = _frequencies(
        rule, self.original_max_seq_len, getattr(self, f"{prefix}original_inv_freq"), position_ids.max() + 1
    )
    return unwrap(type(self).forward)(_With(self, f"{prefix}inv_freq", inv_freq), x, position_ids, **chosen)


def _frequencies(rule: Mapping[str, Any], threshold: int, original: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """inv_freq, float32 [R/2], for a call of `length` tokens; `original` [R/2] up to `threshold` of them."""
    dim, factor = original.shape[-1] * 2, rule["factor"]
    length = torch.clamp(length, min=threshold)
    base = rule["rope_theta"] * ((factor * length / threshold) - (factor - 1)) ** (dim / (dim - 2))
    exponent = torch.arange(0, dim, 2, dtype=torch.int64).to(torch.float) / dim
    return torch.where(length > threshold, 1.0 / (base**exponent), original)


@contextmanager
def unchanged(model: torch.nn.Module) -> Iterator[None]:
    """Whatever modules of `model` set on themselves inside the block is undone after it.

    Some keep frequencies as plain attributes; under a tracer these are its own tensors, useless afterwards. What is
    written into a tensor in place stays.
    """
    before = [(module, dict(vars(module)), dict(module._buffers)) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes, buffers in before:
            for name in vars(module).keys() - attributes.keys():
                del vars(module)[name]
            vars(module).update(attributes)
            module._buffers.clear()
            module._buffers.update(buffers)
