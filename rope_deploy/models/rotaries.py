"""What the model's own rotation is given: seen by watching its rotary functions while it runs.

Nearly every family turns q and k in a function of its module with "rotary" in its name. What such a function was
given and gave back is remembered, and found again in the tensors that enter the attention: whole, with heads and
tokens exchanged, or as the turned slice at one end of the head. Some families norm or scale q and k between rotation
and attention; what their function gave back is then the rotated tensor. Where nothing fits, nothing is claimed.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FunctionType, ModuleType

import torch

WORD = "rotary"
LATEST = 8  # a layer rotates q and k, each whole or in a few pieces


@dataclass
class Watched:
    """The (given, turned) pairs of the latest calls, newest last."""

    pairs: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def keep(self, given: torch.Tensor, turned: torch.Tensor) -> None:
        self.pairs = [*self.pairs[1 - LATEST :], (given.detach(), turned.detach())]

    def before(self, rotated: torch.Tensor) -> torch.Tensor | None:
        """`rotated` [B, N, S, H] as it was before the rotation; None if it came from none of the calls seen."""
        for given, turned in reversed(self.pairs):
            for before, after in ((given, turned), (given.transpose(1, 2), turned.transpose(1, 2))):
                if after.shape[:1] + after.shape[2:3] != rotated.shape[:1] + rotated.shape[2:3]:
                    continue
                if (found := _in_place(rotated, before, after)) is not None:
                    return found
        return None

    def reworked(self, number: int, rotated: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """What q (0) or k (1) of this layer was before and after its rotation, if `rotated` [B, N, S, H], which enters
        the attention, was made of it by more than moving it (JetMoE repeats keys for each of its experts); None unless
        exactly q and k were turned."""
        if len(self.pairs) != 2:
            return None
        given, turned = self.pairs[number]
        ways = [(given, turned), (given.transpose(1, 2), turned.transpose(1, 2))]
        # With as many tokens as heads both fit: a norm or a factor leaves vectors pointing much where they did.
        ways = [(before, after) for before, after in ways if _repeated(after, rotated).shape == rotated.shape]
        return max(ways, key=lambda way: float((_repeated(way[1], rotated) * rotated).sum()), default=None)

    def next_layer(self) -> None:
        self.pairs = []


def _repeated(heads: torch.Tensor, rotated: torch.Tensor) -> torch.Tensor:
    """`heads` as often as they go into the heads of `rotated`."""
    return heads.repeat(1, max(rotated.shape[1] // heads.shape[1], 1), 1, 1)


def _in_place(rotated: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor | None:
    """`rotated` with the end of its head that equals `after` put back to `before`."""
    width = after.shape[-1]
    if after.shape[1] not in (1, rotated.shape[1]) or width > rotated.shape[-1]:
        return None
    for end in (slice(0, width), slice(rotated.shape[-1] - width, None)):
        if torch.equal(rotated[..., end], after.expand_as(rotated[..., end])):
            found = rotated.clone()
            found[..., end] = before
            return found
    return None


@contextmanager
def watching(model: torch.nn.Module) -> Iterator[Watched]:
    """Remember what the rotary functions of the model's modules are given inside the block, in this thread or any."""
    watched, replaced = Watched(), []
    for module in modules_of(model):
        for name, function in list(vars(module).items()):
            if WORD in name and isinstance(function, FunctionType):
                replaced.append((module, name, function))
                setattr(module, name, _reporting(function, watched))
    try:
        yield watched
    finally:
        for module, name, function in replaced:
            setattr(module, name, function)


def modules_of(model: torch.nn.Module) -> set[ModuleType]:
    """The Python modules that define the parts of the model, PyTorch's own left out."""
    names = {type(part).__module__ for part in model.modules()}
    return {sys.modules[name] for name in names if not name.startswith("torch.") and name in sys.modules}


def _reporting(function: Callable, watched: Watched) -> Callable:
    @functools.wraps(function)
    def reporting(*given, **named):
        result = function(*given, **named)
        turned = result if isinstance(result, (tuple, list)) else (result,)
        for before, after in zip(_vectors([*given, *named.values()]), _vectors(turned)):
            if before.shape == after.shape:
                watched.keep(before, after)
        return result

    return reporting


def _vectors(values) -> list[torch.Tensor]:
    """The tensors that can be heads of tokens: four axes, floating point."""
    return [v for v in values if isinstance(v, torch.Tensor) and v.ndim == 4 and v.is_floating_point()]
