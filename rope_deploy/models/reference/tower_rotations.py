"""Record what the rotary functions of a tower are given and return, in the order in which they run.

Attention cannot be relied on for it: towers cut their heads into windows, images and axes before and after. Here the
functions themselves are recorded, by their names. A function that calls another of them counts once.

Names of a tap: the tensors of one call are q and k of one layer, tensors of calls with one each are alternately q and
k; layers are counted in this order, as the graph's rotations of a tower are.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from rope_deploy.models.patches.function_replacement import functions_replaced

ROTARY = re.compile(r"rotary|rope|rotate_queries")
AXES = (3, 4)  # [S, N, H], or heads with a batch


@dataclass
class TowerRotations:
    """The (given, returned) pairs of all rotations so far; `depth` counts the rotary functions that are running."""

    pairs: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    depth: int = 0

    def taps(self) -> dict[str, torch.Tensor]:
        """ "unrotated.{layer}.{q|k}" and "rotated.{layer}.{q|k}", with the axes that the tower gives them."""
        found = {}
        for number, (given, returned) in enumerate(self.pairs):
            site = f"{number // 2}.{'qk'[number % 2]}"
            found[f"unrotated.{site}"], found[f"rotated.{site}"] = given, returned
        return found


@contextmanager
def tower_rotations(model: torch.nn.Module) -> Iterator[TowerRotations]:
    """Record the calls of the rotary functions of the model's Python modules inside the block."""
    rotations = TowerRotations()
    with functions_replaced(model, lambda name, one: _reporting(one, rotations) if ROTARY.search(name) else None):
        yield rotations


def _reporting(function: Callable, rotations: TowerRotations) -> Callable:
    @functools.wraps(function)
    def reporting(*given, **named):
        rotations.depth += 1
        try:
            result = function(*given, **named)
        finally:
            rotations.depth -= 1
        if not rotations.depth:
            returned = result if isinstance(result, (tuple, list)) else (result,)
            pairs = zip(_heads([*given, *named.values()]), _heads(returned))
            rotations.pairs += [(x.detach().clone(), y.detach().clone()) for x, y in pairs if x.shape == y.shape]
        return result

    return reporting


def _heads(values) -> list[torch.Tensor]:
    return [v for v in values if isinstance(v, torch.Tensor) and v.ndim in AXES and v.is_floating_point()]
