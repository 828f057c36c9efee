"""Rotations without memory: dynamic NTK as it can be traced, and models that a trace leaves as they were.

transformers keeps the longest length seen so far on the module and branches on it in Python; a tracer either
refuses that branch or freezes it at the traced length. The rule itself needs no memory: the frequencies follow
from the length of the call alone. Here they are computed from it in tensor operations, in transformers' own
order, and handed to the module's own forward, which knows how its family lays out cos and sin.

Source: the "dynamic" entry of transformers' ROPE_INIT_FUNCTIONS (dynamic NTK scaling by u/bloc97 and u/emozilla).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import unwrap
from types import MethodType
from typing import Any

import torch


def make_stateless(model: torch.nn.Module) -> int:
    """Replace the forward of every dynamic-NTK rotary module in `model`; returns how many there were."""
    found = [m for m in model.modules() if getattr(m, "rope_type", None) == "dynamic" and hasattr(m, "inv_freq")]
    for module in found:
        module.forward = MethodType(_forward, module)
    return len(found)


class _With:
    """A module seen with another `inv_freq`: writing it to the module would carry a traced tensor out of the trace."""

    def __init__(self, module: torch.nn.Module, inv_freq: torch.Tensor):
        self._module, self.inv_freq = module, inv_freq

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@torch.no_grad()
def _forward(self, x: torch.Tensor, position_ids: torch.Tensor, **kwargs):
    """What the module's forward returns for position_ids [B, S], without reading or writing its state."""
    undecorated = unwrap(type(self).forward)
    return undecorated(_With(self, _frequencies(self, position_ids)), x, position_ids, **kwargs)


def _frequencies(module: torch.nn.Module, position_ids: torch.Tensor) -> torch.Tensor:
    """inv_freq, float32 [R/2], for the longest position in the call."""
    rope = module.config.rope_parameters
    factor, original = rope["factor"], module.original_max_seq_len
    dim = module.original_inv_freq.shape[-1] * 2
    length = torch.clamp(position_ids.max() + 1, min=original)
    base = rope["rope_theta"] * ((factor * length / original) - (factor - 1)) ** (dim / (dim - 2))
    exponent = torch.arange(0, dim, 2, dtype=torch.int64).to(torch.float) / dim
    return torch.where(length > original, 1.0 / (base**exponent), module.original_inv_freq)


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
