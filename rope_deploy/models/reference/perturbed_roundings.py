"""Run a model with its roundings perturbed: how far chance alone moves its results.

Another order of the same arithmetic, another runtime, another machine round elsewhere; where two experts or two keys
are nearly tied, that decides. In a half type every result of arithmetic is moved, each element by itself, to one of its
neighbours or left, so that it errs by as much again as rounding to nearest does. Results in float32 and data that is
only moved stay as they are.

In float32 the order of long sums decides, not the last bit: sums of products are moved by as much again as they err.
Angles are no sums, and stay: the graph's tables repeat them.
"""

from __future__ import annotations

import torch

from rope_deploy.models.reference.wider_type import HALVES, is_half
from rope_deploy.models.torch_private import TorchDispatchMode, is_mutable, tree_map_only

# An element rounded to nearest errs by ulp²/12 in the mean square; a step of one ulp up or down with this chance
# each does the same.
CHANCE = 1 / 24
# fmt: off
MOVED = {  # operators that round nothing
    "arange", "as_strided", "cat", "clone", "constant_pad_nd", "copy", "copy_", "detach", "embedding", "empty",
    "expand", "fill", "fill_", "full", "full_like", "gather", "index", "index_copy", "index_copy_", "index_put",
    "index_put_", "index_select", "lift_fresh", "lift_fresh_copy", "masked_fill", "masked_fill_", "narrow_copy",
    "new_full", "new_zeros", "ones", "pad", "permute", "repeat", "repeat_interleave", "roll", "scatter",
    "scatter_", "select_scatter", "slice_scatter", "sort", "split", "stack", "t", "topk", "tril", "triu",
    "unbind", "where", "zeros", "zeros_like", "_unsafe_view",
}
# fmt: on
# Which argument of a product holds the numbers that are summed along its last axis; None: always many.
PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1, "convolution": None}


def perturbed(model: torch.nn.Module, seed: int) -> TorchDispatchMode:
    """The mode in which `model` runs with its roundings perturbed; the same `seed` gives the same results."""
    return PerturbedRoundings(seed) if is_half(model) else PerturbedSums(seed)


class PerturbedRoundings(TorchDispatchMode):
    """Half types: see above."""

    def __init__(self, seed: int):
        super().__init__()
        self._random = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.is_view or function.overloadpacket.__name__ in MOVED:
            return result
        if is_mutable(function):
            tree_map_only(torch.Tensor, lambda tensor: _half(tensor) and tensor.copy_(self._moved(tensor)), result)
            return result
        return tree_map_only(torch.Tensor, lambda tensor: self._moved(tensor) if _half(tensor) else tensor, result)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        drawn = torch.rand(tensor.shape, generator=self._random)
        ends = torch.full((), float("inf"), dtype=tensor.dtype)
        up, down = torch.nextafter(tensor, ends), torch.nextafter(tensor, -ends)
        still = (drawn > 2 * CHANCE) | (tensor == 0) | ~torch.isfinite(tensor)
        return torch.where(still, tensor, torch.where(drawn < CHANCE, up, down))


class PerturbedSums(TorchDispatchMode):
    """float32: see above. How much a sum errs is known from the same sum in float64."""

    def __init__(self, seed: int):
        super().__init__()
        self._random = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result, name = function(*args, **kwargs), function.overloadpacket.__name__
        if name not in PRODUCTS or is_mutable(function) or result.dtype != torch.float32 or not result.numel():
            return result
        if PRODUCTS[name] is not None and args[PRODUCTS[name]].shape[-1] == 1:
            return result
        exact = function(*tree_map_only(torch.Tensor, torch.Tensor.double, args), **kwargs)
        # Each by its own error: columns of one product may differ in size by any factor.
        return result + ((result - exact) * torch.randn(result.shape, generator=self._random)).float()


def _half(tensor: torch.Tensor) -> bool:
    return tensor.dtype in HALVES
