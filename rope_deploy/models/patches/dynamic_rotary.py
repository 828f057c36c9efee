"""Dynamic NTK as it can be traced: frequencies that follow from the length of the call alone.

transformers keeps the longest length so far on the module and branches on it in Python; a tracer either refuses that
branch or freezes it at the traced length. The rule itself needs no memory. Here the frequencies are computed in tensor
operations, in transformers' own order, and handed to the module's own forward, which knows how its family lays out cos
and sin.

Source: the "dynamic" entry of transformers' ROPE_INIT_FUNCTIONS (dynamic NTK scaling by u/bloc97 and u/emozilla).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import unwrap
from types import MethodType
from typing import Any

import torch

from rope_deploy.models.patches.patch import Patch, Replacement, replaced


def _is_dynamic(module: torch.nn.Module) -> bool:
    rule = getattr(module, "rope_type", None)
    kinds = rule.values() if isinstance(rule, dict) else (rule,)
    return "dynamic" in kinds and any(name.endswith("inv_freq") for name, _ in module.named_buffers(recurse=False))


def _replacements(model: torch.nn.Module) -> Iterator[Replacement]:
    for module in model.modules():
        if _is_dynamic(module):
            needs = ("config", "original_max_seq_len")
            yield Replacement(module, "forward", MethodType(_forward, module), needs=needs)


class _OtherFrequencies:
    """A module with other frequencies: writing them to the module would carry a traced tensor out of the trace."""

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
    return unwrap(type(self).forward)(_OtherFrequencies(self, f"{prefix}inv_freq", inv_freq), x, position_ids, **chosen)


def _frequencies(rule: Mapping[str, Any], threshold: int, original: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """inv_freq, float32 [R/2], for a call of `length` tokens; `original` [R/2] up to `threshold` of them."""
    dim, factor = original.shape[-1] * 2, rule["factor"]
    length = torch.clamp(length, min=threshold)
    base = rule["rope_theta"] * ((factor * length / threshold) - (factor - 1)) ** (dim / (dim - 2))
    exponent = torch.arange(0, dim, 2, dtype=torch.int64).to(torch.float) / dim
    return torch.where(length > threshold, 1.0 / (base**exponent), original)


DYNAMIC_ROTARY = Patch(
    name="dynamic-rotary",
    scope="run",
    target="the forward of rotary modules with the rope type dynamic",
    reason="transformers keeps the longest length on the module and branches on it in Python.",
    versions=("transformers 5.23",),
    applies=lambda model: any(map(_is_dynamic, model.modules())),
    apply=lambda model: replaced(DYNAMIC_ROTARY.name, DYNAMIC_ROTARY.versions, _replacements(model)),
)
