"""What the model's own rotation is given: seen by watching its rotary functions while it runs.

Nearly every family turns q and k in a function of its module with "rotary" in its name. What such a function was
given and gave back is remembered, and found again in the tensors that enter the attention: whole, with heads and
tokens exchanged, or as the turned slice at one end of the head. Some families norm or scale q and k between rotation
and attention; what their function gave back is then the rotated tensor. What no attention is given was turned for an
indexer. Where nothing fits, nothing is claimed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from rope_deploy.models.patches.replaced_functions import functions_replaced

WORD = "rotary"
LATEST = 8  # a layer rotates q and k, each whole or in a few pieces
ALIKE = 0.5  # the cosine of tensors of which one is the other normed or scaled is near 1, of unrelated ones near 0


# (before, after): a tensor [B, N, S, H] before and after its rotation; before is None where it is not known.
Turn = tuple[torch.Tensor | None, torch.Tensor]


@dataclass
class Watched:
    """The (given, turned) pairs of the latest calls, newest last."""

    pairs: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def keep(self, given: torch.Tensor, turned: torch.Tensor) -> None:
        self.pairs = [*self.pairs[1 - LATEST :], (given.detach(), turned.detach())]

    def attention(self, query: torch.Tensor, key: torch.Tensor) -> dict[str, list[Turn]]:
        """What was turned for an attention that is given `query` and `key` (its new rows), [B, N, S, H].

        First of "q" and of "k" is the attention's own. If more than moving was done to it since its rotation, it is
        given as it was turned; if nothing is known of it, as it enters the attention. What else was turned follows, q
        and k by turns, where its axes can be told apart.
        """
        left, own = list(range(len(self.pairs))), {}
        for role, tensor in (("q", query), ("k", key)):
            for number in reversed(left):
                if (before := _before(tensor, *self.pairs[number])) is not None:
                    own[role] = before, tensor
                    left.remove(number)
                    break
        for place, (role, tensor) in enumerate((("q", query), ("k", key))):
            if role not in own:
                found = ((number, *_reworked(tensor, *self.pairs[number])) for number in left if number % 2 == place)
                likeness, number, turn = max(((alike, n, t) for n, alike, t in found), default=(0.0, -1, None))
                own[role] = turn if likeness > ALIKE else (None, tensor)
                left = [one for one in left if likeness <= ALIKE or one != number]
        found = {role: [turn] for role, turn in own.items()}
        for role, number in zip(itertools.cycle("qk"), left):
            if (turn := _upright(self.pairs[number], query.shape[2])) is not None:
                found[role].append(turn)
        return found

    def next_layer(self) -> None:
        self.pairs = []


def _before(rotated: torch.Tensor, given: torch.Tensor, turned: torch.Tensor) -> torch.Tensor | None:
    """`rotated` [B, N, S, H] as it was before the rotation; None if it did not come from `turned`."""
    for before, after in _ways(given, turned):
        fits = after.shape[:1] + after.shape[2:3] == rotated.shape[:1] + rotated.shape[2:3]
        if fits and (found := _in_place(rotated, before, after)) is not None:
            return found
    return None


def _ways(given: torch.Tensor, turned: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """As they are, and with heads and tokens exchanged."""
    return (given, turned), (given.transpose(1, 2), turned.transpose(1, 2))


def _ends(width: int, head: int) -> tuple[slice, slice]:
    return slice(0, width), slice(head - width, head)


def _reworked(rotated: torch.Tensor, given: torch.Tensor, turned: torch.Tensor) -> tuple[float, Turn | None]:
    """The rotation that `rotated` [B, N, S, H], or one end of its head, was made of by more than moving it, and how
    alike the two are: a norm or a factor leaves vectors pointing much where they did. JetMoE repeats keys as well."""
    likeness, best = 0.0, None
    for before, after in _ways(given, turned):
        width, heads = after.shape[-1], _repeated(after, rotated)
        if heads.shape[:3] != rotated.shape[:3] or width > rotated.shape[-1]:
            continue
        for end in _ends(width, rotated.shape[-1]):
            alike = float(torch.cosine_similarity(heads, rotated[..., end], dim=-1).mean())
            if alike > likeness:
                likeness, best = alike, (before, after)
    return likeness, best


def _upright(pair: tuple[torch.Tensor, torch.Tensor], tokens: int) -> Turn | None:
    """`pair` with heads before tokens; None where there are as many of one as of the other."""
    heads_first = pair[1].shape[2] == tokens
    if heads_first == (pair[1].shape[1] == tokens):
        return None
    return _ways(*pair)[0 if heads_first else 1]


def _repeated(heads: torch.Tensor, rotated: torch.Tensor) -> torch.Tensor:
    """`heads` as often as they go into the heads of `rotated`."""
    return heads.repeat(1, max(rotated.shape[1] // heads.shape[1], 1), 1, 1)


def _in_place(rotated: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor | None:
    """`rotated` with the end of its head that equals `after` put back to `before`."""
    width = after.shape[-1]
    if after.shape[1] not in (1, rotated.shape[1]) or width > rotated.shape[-1]:
        return None
    for end in _ends(width, rotated.shape[-1]):
        if torch.equal(rotated[..., end], after.expand_as(rotated[..., end])):
            found = rotated.clone()
            found[..., end] = before
            return found
    return None


@contextmanager
def watching(model: torch.nn.Module) -> Iterator[Watched]:
    """Remember what the rotary functions of the model's modules are given inside the block, in this thread or any."""
    watched = Watched()
    with functions_replaced(model, lambda name, one: _reporting(one, watched) if WORD in name else None):
        yield watched


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
