"""Compute a model in a wider type: runs in its own type are measured by it.

float16 and bfloat16 become float32, float32 becomes float64. The weights are those of the model, each exactly as it
is; only the arithmetic on them is wider. The same modules compute, with wide copies of their tensors in place for as
long as a block lasts: a copy of the modules would miss functions that hold on to the modules they were made for.

Models ask for float32 by name, in norms and softmaxes; of a float64 number that would round it. So in float64 a cast of
float64 to float32 is left out. What is computed from positions alone stays as it is: cos and sin are float32 numbers
in the model, and the graph's tables repeat them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial

import psutil
import torch

from rope_deploy.models.torch_private import TorchDispatchMode, is_mutable, tree_any, tree_map_only

HALVES = (torch.float16, torch.bfloat16)
WIDER = {torch.float32: torch.float64, torch.complex64: torch.complex128}


class Widened:
    """Wide copies of the tensors of `model` that limit how exactly it computes, made when first needed."""

    def __init__(self, model: torch.nn.Module):
        self._model, self._copies = model, {}
        self._half = is_half(model)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the model has them in place of its own. Never run it elsewhere meanwhile.

        Raises MemoryError where there is no room for them.
        """
        own = [(tensor, tensor.data) for tensor in self._tensors()]
        if not self._copies:
            self._copies = self._made([tensor for tensor, _ in own])
        stated = [(config, config.dtype) for config in _configurations(self._model) if config.dtype in self._narrow]
        # mock.patch.object cannot give back the data of a tensor: it takes away what was not there before.
        with ExitStack() as stack:
            for tensor, data in own:
                stack.callback(setattr, tensor, "data", data)
                tensor.data = self._copies[id(tensor)]
            for config, dtype in stated:
                stack.callback(setattr, config, "dtype", dtype)
                config.dtype = self._width
            stack.enter_context(nullcontext() if self._half else NoNarrowing())
            yield

    @property
    def _width(self) -> torch.dtype:
        return torch.float32 if self._half else torch.float64

    @property
    def _narrow(self) -> tuple[torch.dtype, ...]:
        return HALVES if self._half else (torch.float32,)

    def _tensors(self) -> list[torch.Tensor]:
        """Parameters, and in a half type buffers: tables of angles are float32 in every model."""
        tensors = (*self._model.parameters(), *(self._model.buffers() if self._half else ()))
        return list({id(tensor): tensor for tensor in tensors if tensor.dtype in self._narrow}.values())

    def _made(self, tensors: list[torch.Tensor]) -> dict[int, torch.Tensor]:
        needed = sum(tensor.numel() for tensor in tensors) * self._width.itemsize
        if needed > psutil.virtual_memory().available:
            raise MemoryError
        return {id(tensor): tensor.data.to(self._width) for tensor in tensors}


class NoNarrowing(TorchDispatchMode):
    """An operator with a float64 number among its inputs computes in float64, whatever dtype it is asked for."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not tree_any(_is_wide, (args, kwargs)):
            return function(*args, **kwargs)
        kwargs = {name: WIDER.get(value, value) if name == "dtype" else value for name, value in kwargs.items()}
        # A tensor that is written to keeps its type, and what is written into it has that type.
        fit = partial(_like, args[0]) if is_mutable(function) and args else _widened
        args, kwargs = tree_map_only(torch.Tensor, fit, (args, kwargs))
        return function(*args, **kwargs)


def _is_wide(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in WIDER.values()


def _like(written: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(written.dtype) if tensor.dtype.is_floating_point and written.dtype.is_floating_point else tensor


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(WIDER.get(tensor.dtype, tensor.dtype))


def is_half(model: torch.nn.Module) -> bool:
    """Whether any parameter of `model` is in a half type."""
    return any(parameter.dtype in HALVES for parameter in model.parameters())


def _configurations(model: torch.nn.Module) -> list:
    """Whatever a module calls its configuration and states a dtype; some read it while they run."""
    configs = (getattr(part, "config", None) for part in model.modules())
    return list({id(config): config for config in configs if hasattr(config, "dtype")}.values())
