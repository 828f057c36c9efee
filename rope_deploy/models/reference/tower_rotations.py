"""What the rotary functions of a tower are given and give back, in the order in which they run.

Attention says nothing of it that could be relied on: towers cut their heads into windows, images and axes before and
after. Here the functions themselves are watched, by their names. What calls another of them counts once.

Names of a tap: the tensors of one call are q and k of one layer, tensors of calls with one each are q and k by turns;
layers are counted as they come, which is how the graph's rotations of a tower are counted.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from rope_deploy.models.patches.replaced_functions import functions_replaced

TURNS = re.compile(r"rotary|rope|rotate_queries")
AXES = (3, 4)  # [S, N, H], or heads with a batch


@dataclass
class Turns:
    """(given, turned) of every rotation so far; `depth` counts the rotary functions that are at work."""

    pairs: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    depth: int = 0

    def taps(self) -> dict[str, torch.Tensor]:
        """ "unrotated.{layer}.{q|k}" and "rotated.{layer}.{q|k}", with the axes that the tower gives them."""
        found = {}
        for number, (given, turned) in enumerate(self.pairs):
            place = f"{number // 2}.{'qk'[number % 2]}"
            found[f"unrotated.{place}"], found[f"rotated.{place}"] = given, turned
        return found


@contextmanager
def turning(model: torch.nn.Module) -> Iterator[Turns]:
    """Watch the rotary functions of the model's Python modules inside the block."""
    turns = Turns()
    with functions_replaced(model, lambda name, one: _reporting(one, turns) if TURNS.search(name) else None):
        yield turns


def _reporting(function: Callable, turns: Turns) -> Callable:
    @functools.wraps(function)
    def reporting(*given, **named):
        turns.depth += 1
        try:
            result = function(*given, **named)
        finally:
            turns.depth -= 1
        if not turns.depth:
            turned = result if isinstance(result, (tuple, list)) else (result,)
            pairs = zip(_heads([*given, *named.values()]), _heads(turned))
            turns.pairs += [(x.detach().clone(), y.detach().clone()) for x, y in pairs if x.shape == y.shape]
        return result

    return reporting


def _heads(values) -> list[torch.Tensor]:
    return [v for v in values if isinstance(v, torch.Tensor) and v.ndim in AXES and v.is_floating_point()]
