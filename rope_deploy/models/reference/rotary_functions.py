"""Record what the model's own rotary functions are given and return while it runs.

Nearly every family rotates q and k in a function of its module with "rotary" in its name. What such a function is given
and returns is kept, and found again in the tensors that enter the attention: whole, with heads and tokens exchanged, or
as the rotated slice at one end of the head. Some families norm or scale q and k between rotation and attention; there
the rotated tensor is what their function returned. What no attention is given was rotated for an indexer. Where nothing
fits, no pair is returned.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from rope_deploy.models.patches.function_replacement import functions_replaced

WORD = "rotary"
LATEST = 8  # a layer rotates q and k, each whole or in a few pieces
ALIKE = 0.5  # the cosine of tensors of which one is the other normed or scaled is near 1, of unrelated ones near 0


# A tensor [B, N, S, H] before and after its rotation; before is None where it is not known.
BeforeAfter = tuple[torch.Tensor | None, torch.Tensor]


@dataclass
class RotaryCalls:
    """The (given, returned) pairs of the latest calls, newest last."""

    pairs: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def keep(self, given: torch.Tensor, returned: torch.Tensor) -> None:
        self.pairs = [*self.pairs[1 - LATEST :], (given.detach(), returned.detach())]

    def of_attention(self, query: torch.Tensor, key: torch.Tensor) -> dict[str, list[BeforeAfter]]:
        """What was rotated for an attention that is given `query` and `key` (its new rows), [B, N, S, H].

        First of "q" and of "k" is the attention's own. If it was changed since its rotation by more than moving, it is
        the rotation's result; if nothing is known of it, what enters the attention. What else was rotated follows,
        alternately q and k, where its axes can be told apart.
        """
        left, own = list(range(len(self.pairs))), {}
        for role, tensor in (("q", query), ("k", key)):
            for number in reversed(left):
                if (before := _before(tensor, *self.pairs[number])) is not None:
                    own[role] = before, tensor
                    left.remove(number)
                    break
        for parity, (role, tensor) in enumerate((("q", query), ("k", key))):
            if role not in own:
                found = ((number, *_reworked(tensor, *self.pairs[number])) for number in left if number % 2 == parity)
                likeness, number, pair = max(((alike, n, t) for n, alike, t in found), default=(0.0, -1, None))
                own[role] = pair if likeness > ALIKE else (None, tensor)
                left = [one for one in left if likeness <= ALIKE or one != number]
        found = {role: [pair] for role, pair in own.items()}
        for role, number in zip(itertools.cycle("qk"), left):
            if (pair := _heads_first(self.pairs[number], query.shape[2])) is not None:
                found[role].append(pair)
        return found

    def next_layer(self) -> None:
        self.pairs = []


def _before(rotated: torch.Tensor, given: torch.Tensor, returned: torch.Tensor) -> torch.Tensor | None:
    """`rotated` [B, N, S, H] as it was before the rotation; None if it did not come from `returned`."""
    for before, after in _both_layouts(given, returned):
        fits = after.shape[:1] + after.shape[2:3] == rotated.shape[:1] + rotated.shape[2:3]
        if fits and (found := _put_back(rotated, before, after)) is not None:
            return found
    return None


def _both_layouts(given: torch.Tensor, returned: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """The two as they are, and with heads and tokens exchanged."""
    return (given, returned), (given.transpose(1, 2), returned.transpose(1, 2))


def _slices_at_ends(width: int, head: int) -> tuple[slice, slice]:
    """The first and the last `width` elements of a head of `head`."""
    return slice(0, width), slice(head - width, head)


def _reworked(rotated: torch.Tensor, given: torch.Tensor, returned: torch.Tensor) -> tuple[float, BeforeAfter | None]:
    """The rotation that `rotated` [B, N, S, H], or one end of its head, was made of by more than moving it, and the
    mean cosine between the two: a norm or a factor changes directions little. JetMoE repeats keys as well."""
    likeness, best = 0.0, None
    for before, after in _both_layouts(given, returned):
        width, heads = after.shape[-1], _repeated(after, rotated)
        if heads.shape[:3] != rotated.shape[:3] or width > rotated.shape[-1]:
            continue
        for end in _slices_at_ends(width, rotated.shape[-1]):
            alike = float(torch.cosine_similarity(heads, rotated[..., end], dim=-1).mean())
            if alike > likeness:
                likeness, best = alike, (before, after)
    return likeness, best


def _heads_first(pair: tuple[torch.Tensor, torch.Tensor], tokens: int) -> BeforeAfter | None:
    """`pair` with heads before tokens; None where there are as many of one as of the other."""
    heads_first = pair[1].shape[2] == tokens
    if heads_first == (pair[1].shape[1] == tokens):
        return None
    return _both_layouts(*pair)[0 if heads_first else 1]


def _repeated(heads: torch.Tensor, rotated: torch.Tensor) -> torch.Tensor:
    """`heads` as often as they go into the heads of `rotated`."""
    return heads.repeat(1, max(rotated.shape[1] // heads.shape[1], 1), 1, 1)


def _put_back(rotated: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor | None:
    """`rotated` with the end of its head that equals `after` put back to `before`."""
    width = after.shape[-1]
    if after.shape[1] not in (1, rotated.shape[1]) or width > rotated.shape[-1]:
        return None
    for end in _slices_at_ends(width, rotated.shape[-1]):
        if torch.equal(rotated[..., end], after.expand_as(rotated[..., end])):
            found = rotated.clone()
            found[..., end] = before
            return found
    return None


@contextmanager
def rotary_calls(model: torch.nn.Module) -> Iterator[RotaryCalls]:
    """Keep what the rotary functions of the model's modules are given inside the block, in this thread or any."""
    calls = RotaryCalls()
    with functions_replaced(model, lambda name, one: _reporting(one, calls) if WORD in name else None):
        yield calls


def _reporting(function: Callable, calls: RotaryCalls) -> Callable:
    @functools.wraps(function)
    def reporting(*given, **named):
        result = function(*given, **named)
        returned = result if isinstance(result, (tuple, list)) else (result,)
        for before, after in zip(_vectors([*given, *named.values()]), _vectors(returned)):
            if before.shape == after.shape:
                calls.keep(before, after)
        return result

    return reporting


def _vectors(values) -> list[torch.Tensor]:
    """The tensors that can be heads of tokens: four axes, floating point."""
    return [v for v in values if isinstance(v, torch.Tensor) and v.ndim == 4 and v.is_floating_point()]
