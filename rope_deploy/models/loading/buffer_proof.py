"""Proof that what a model computes for itself when it is made is what its class computes.

transformers 5 makes models on the meta device, without memory, and then gives every buffer that no checkpoint holds
memory that nothing was written to. For its own models it computes these buffers again; for code that comes with a
model nobody does, and frequencies are whatever lay there. So loading happens where unwritten memory reads as NaN, the
class is made a second time outside the meta device, without weights, and everything that is no weight is compared.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import PreTrainedModel

from rope_deploy.artifact import Finding
from rope_deploy.errors import ModelError
from rope_deploy.models.patches.unwritten_memory import nan_in_unwritten_memory
from rope_deploy.models.torch_private import computed_buffers, own_buffers
from rope_deploy.models.transformers_private import forget_initialisation

SHOWN = 3


@dataclass(frozen=True)
class _Kept:
    """A tensor that a module keeps: in its buffers, or as (part of) a plain attribute."""

    module: torch.nn.Module
    attribute: str
    tensor: torch.Tensor
    buffer: bool


def prove(model: PreTrainedModel, source: str, dtype: torch.dtype) -> tuple[Finding, ...]:
    """What was put right in `model`, loaded from `source` with `patches.unwritten_memory` in place.

    Buffers and plain tensors that loading left unwritten are taken from the class, made again, where making it twice
    agrees bit for bit. Raises ModelError, with the name, for one that is not proved in this way, and for a weight that
    nothing was written to.
    """
    if empty := [name for name, weight in model.named_parameters() if _unwritten(weight)]:
        raise ModelError(
            f"{_listed(empty)} of {source} {'are' if len(empty) > 1 else 'is'} NaN throughout.",
            exists="Either its files hold NaN there, or they hold nothing there and loading left memory unwritten.",
            todo="Copy the weights again from where the model came; if NaN stands there too, the model is broken.",
        )
    found = _kept(model)
    if not found:
        return ()
    again = _kept(_made(model, source, dtype), every=True)
    wrong = [name for name, one in found.items() if not _proved(one, again.get(name))]
    if wrong and not all(_unwritten(found[name].tensor) for name in wrong):
        # Of its own models transformers computes buffers anew after loading, when fp32 is the default type again.
        anew = _kept(_initialised(_made(model, source, dtype)), every=True)
        wrong = [name for name in wrong if not _proved(found[name], anew.get(name))]
    if not wrong:
        return ()
    with nan_in_unwritten_memory():
        third = _kept(_made(model, source, dtype, seed=1), every=True)
    for name in wrong:
        one, other = again.get(name), third.get(name)
        if one is None or other is None or not _same(one.tensor, other.tensor) or not _written(other.tensor):
            raise _unproved(source, [name], "its class, made again, does not compute it twice alike")
        if not _unwritten(found[name].tensor):
            raise _unproved(source, [name], "its class, made again, computes another")
    for name in wrong:
        _put(found[name], again[name])
    message = (
        f"transformers left {_listed(wrong)} without content; {'they were' if len(wrong) > 1 else 'it was'} computed "
        f"again by the model's own class, twice alike."
    )
    return (Finding("computed-again", "info", message),)


def require_written(module: torch.nn.Module, source: str) -> None:
    """Raise ModelError for a `module`, made by `source` with NaN in unwritten memory, that keeps unwritten memory."""
    weights = {name: weight for name, weight in module.named_parameters() if _unwritten(weight)}
    kept = {name: one.tensor for name, one in _kept(module).items() if _unwritten(one.tensor)}
    floats = [name for name, tensor in {**weights, **kept}.items() if tensor.is_meta or _is_float(tensor)]
    if floats:
        raise _unproved(source, floats, "nothing was written to it when the model was made")


def _proved(found: _Kept, again: _Kept | None) -> bool:
    return again is not None and not _unwritten(found.tensor) and _same(found.tensor, again.tensor)


def _kept(model: torch.nn.Module, *, every: bool = False) -> dict[str, _Kept]:
    """By name: buffers that no checkpoint holds, those that it should have held and that are unwritten (or `every`
    buffer), and tensors in plain attributes."""
    known = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    found: dict[str, _Kept] = {}
    for path, module in model.named_modules():
        before = f"{path}." if path else ""
        for name, buffer in own_buffers(module).items():
            if buffer is None:
                continue
            if every or name in computed_buffers(module) or _unwritten(buffer):
                found[before + name] = _Kept(module, name, buffer, buffer=True)
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            for where, tensor in _tensors(value, name):
                if id(tensor) not in known:
                    found[before + where] = _Kept(module, name, tensor, buffer=False)
    return found


def _tensors(value: Any, name: str, depth: int = 3) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif depth and isinstance(value, (list, tuple)):
        for number, one in enumerate(value):
            yield from _tensors(one, f"{name}[{number}]", depth - 1)
    elif depth and isinstance(value, Mapping):
        for key, one in value.items():
            yield from _tensors(one, f"{name}[{key!r}]", depth - 1)


def _made(model: PreTrainedModel, source: str, dtype: torch.dtype, seed: int = 0) -> PreTrainedModel:
    """The class of `model` made again in `dtype`: buffers on the CPU, weights without memory."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.random.fork_rng(devices=[]), init_empty_weights(include_buffers=False):
            torch.manual_seed(seed)
            return type(model)(copy.deepcopy(model.config))
    except Exception as error:  # code that comes with a model raises anything
        names = sorted(_kept(model))
        raise _unproved(
            source, names, f"its class cannot be made outside transformers ({type(error).__name__})"
        ) from error
    finally:
        torch.set_default_dtype(before)


def _initialised(model: PreTrainedModel) -> PreTrainedModel:
    for module in model.modules():
        forget_initialisation(module)
    with torch.random.fork_rng(devices=[]):
        model.initialize_weights()
    return model


def _put(found: _Kept, again: _Kept) -> None:
    if found.buffer:
        own_buffers(found.module)[found.attribute] = again.tensor
    else:
        setattr(found.module, found.attribute, getattr(again.module, again.attribute))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.is_meta or other.is_meta or one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one, other) or (_is_float(one) and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True))


def _written(tensor: torch.Tensor) -> bool:
    return not (_is_float(tensor) and bool(tensor.isnan().any()))


def _unwritten(tensor: torch.Tensor) -> bool:
    """Whether all of it is what `patches.unwritten_memory` fills memory with.

    The first number decides, unless it is that: weights are large."""
    if tensor.is_meta:
        return True
    if not tensor.numel():
        return False
    first = tensor.detach()[(0,) * tensor.ndim]
    if _is_float(tensor):
        return bool(first.isnan()) and bool(tensor.isnan().all())
    largest = True if tensor.dtype == torch.bool else torch.iinfo(tensor.dtype).max
    return bool(first == largest) and bool((tensor == largest).all())


def _is_float(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _unproved(source: str, names: list[str], why: str) -> ModelError:
    return ModelError(
        f"Loading {source} left {_listed(names)} without proof: {why}.",
        exists="transformers 5 makes models without memory, and what a class computes for itself can be lost.",
        todo="Compute it in forward, keep it in the checkpoint, or give a factory that makes the model.",
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
