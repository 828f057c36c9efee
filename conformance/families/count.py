"""How many rotations a model applies, counted while PyTorch runs it, by what it computes and not by what it is called.

A rotation turns pairs of an activation by an angle: x·cos + x'·sin. So cosines and sines are followed from where they
are made (cos, sin, polar, exp of an imaginary number), through whatever only moves, scales or selects them, to the
products with an activation; a sum of a product with a cosine and one with a sine is a rotation, and so is a complex
product. What halves, pairs or axes of one vector are turned apart and then joined counts once.

Nothing here knows the exporter or the graph: the number is what the graph's is held against. A model is watched from
when it is made: many compute their tables then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from rope_deploy.models.torch_private import TorchDispatchMode, tree_leaves

aten = torch.ops.aten

COS, SIN = frozenset(("cos",)), frozenset(("sin",))
# What makes an angle into its cosine, its sine or both.
MAKES = {aten.cos: COS, aten.sin: SIN, aten.polar: COS | SIN, aten.exp: COS | SIN, aten.complex: COS | SIN}
PRODUCTS = (aten.mul, aten.mul_)
SUMS = (aten.add, aten.sub, aten.add_, aten.sub_, aten.rsub)
FUSED = (aten.addcmul, aten.addcmul_)
JOINS = (aten.cat, aten.stack, aten.view_as_real, aten.complex)
INTO = (aten.copy_, aten.index_put_, aten.slice_scatter, aten.select_scatter, aten.copy)
# Operators that only move, copy, choose, negate or convert.
MOVING = (
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "transpose", "t", "permute", "movedim", "swapaxes"),
    *("slice", "select", "narrow", "unbind", "index", "index_select", "gather", "embedding", "unfold", "as_strided"),
    *("unsqueeze", "unsqueeze_", "squeeze", "squeeze_", "flatten", "unflatten", "expand", "broadcast_to"),
    *("clone", "detach", "alias", "contiguous", "copy", "copy_", "_to_copy", "to", "lift_fresh"),
    *("neg", "neg_", "conj", "_conj", "real", "imag", "view_as_real", "view_as_complex", "complex"),
    *("cat", "stack", "split", "split_with_sizes", "chunk", "roll", "flip", "repeat", "repeat_interleave", "tile"),
    *("slice_scatter", "select_scatter", "index_put", "index_put_", "masked_fill", "where", "constant_pad_nd"),
)
MOVES = frozenset(getattr(aten, name) for name in MOVING if hasattr(aten, name))


@dataclass(frozen=True)
class Tag:
    """What is known of a tensor. `table`: which of cos and sin it holds; `product`: which of them an activation was
    multiplied with; `rotated`: the numbers of the rotations whose results it holds; `active`: it depends on the
    model's input or weights."""

    table: frozenset[str] = frozenset()
    product: frozenset[str] = frozenset()
    rotated: frozenset[int] = frozenset()
    active: bool = False


NOTHING = Tag()


@dataclass
class Rotations:
    """Where rotations happened, and which of them are parts of one."""

    paths: list[str] = field(default_factory=list)
    _same: dict[int, int] = field(default_factory=dict)

    def new(self, path: str) -> int:
        self.paths.append(path)
        return len(self.paths) - 1

    def root(self, number: int) -> int:
        while number in self._same:
            number = self._same[number]
        return number

    def join(self, numbers: frozenset[int]) -> None:
        first, *others = sorted({self.root(number) for number in numbers})
        for other in others:
            self._same[other] = first

    def applied(self) -> list[str]:
        """The path of the module in which each rotation happened, parts of one counted once."""
        return [path for number, path in enumerate(self.paths) if number not in self._same]


class Watch(TorchDispatchMode):
    """Follows tables and activations through every operator; `rotations` has what was found."""

    def __init__(self) -> None:
        super().__init__()
        self.rotations = Rotations()
        self._tags = WeakIdKeyDictionary()
        # By the storage's address. The storage is kept, so that no later one gets the same.
        self._written: dict[int, tuple[torch.UntypedStorage, frozenset[int]]] = {}
        self._path: list[str] = []
        self._weights: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        packet = function.overloadpacket
        given = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor)]
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor):
                tag = self._tag(packet, given, made)
                if tag != NOTHING or made in self._tags:
                    self._tags[made] = tag
        return result

    def of(self, tensor: torch.Tensor) -> Tag:
        tag = self._tags.get(tensor, NOTHING)
        if not tag.active and isinstance(tensor, torch.nn.Parameter):
            return Tag(tag.table, tag.product, tag.rotated, not tag.table)
        return tag

    def _tag(self, packet, given: list[torch.Tensor], made: torch.Tensor) -> Tag:
        if not (made.is_floating_point() or made.is_complex()):
            return NOTHING
        tags = [self.of(tensor) for tensor in given]
        active = any(tag.active for tag in tags)
        if packet in MAKES and (packet is not aten.exp or made.is_complex()) and packet is not aten.complex:
            return Tag(table=MAKES[packet])
        if packet in (*JOINS, *INTO):
            return self._joined(packet, given, tags, active)
        if packet in PRODUCTS:
            return self._product(tags, made, active)
        if packet in FUSED:
            factors = self._product(tags[1:3], made, active)
            return self._sum([tags[0], factors], active)
        if packet in SUMS:
            return self._sum(tags, active)
        if packet is aten.sum and tags[0].product == COS | SIN and given[0].numel() == 2 * made.numel():
            return self._sum([Tag(product=COS), Tag(product=SIN)], active)  # a row of a 2×2 matrix times a pair
        if packet in MOVES:
            return _union(tags, active)
        if packet is aten.div and len(tags) <= 2 and tags[0].table and not tags[0].active:
            return tags[0]
        return Tag(active=active)

    def _product(self, tags: list[Tag], made: torch.Tensor, active: bool) -> Tag:
        tables = [tag for tag in tags if tag.table]
        others = [tag for tag in tags if not tag.table]
        if len(tables) == 1 and any(tag.active for tag in others):
            if made.is_complex():
                return Tag(rotated=frozenset((self.rotations.new(self._current_path()),)), active=True)
            return Tag(product=tables[0].table, active=True)
        if tables:  # scaled, or cos times sin, as in a table of several axes
            return Tag(table=frozenset().union(*(tag.table for tag in tables)))
        if len(tags) == 1 or any(not tag.active for tag in tags):
            return _union(tags, active)  # scaled by a number
        return Tag(active=active)

    def _sum(self, tags: list[Tag], active: bool) -> Tag:
        products = [tag.product for tag in tags if tag.product]
        if len(products) == 2 and products[0] | products[1] == COS | SIN:
            return Tag(rotated=frozenset((self.rotations.new(self._current_path()),)), active=True)
        if products and len(products) == len(tags):
            return Tag(product=frozenset().union(*products), active=True)
        return Tag(active=active)

    def _joined(self, packet, given: list[torch.Tensor], tags: list[Tag], active: bool) -> Tag:
        """Parts put together. What is written into a tensor piece by piece is known by the tensor's storage."""
        tag = _union(tags, active)
        if packet in INTO:
            storage = given[0].untyped_storage()
            _, written = self._written.get(storage._cdata, (storage, frozenset()))
            if written := written | tag.rotated:
                self._written[storage._cdata] = storage, written
                self.rotations.join(written)
        elif tag.rotated:
            self.rotations.join(tag.rotated)
        return tag

    def recognise(self, model: torch.nn.Module) -> None:
        """Take frozen tensors for tables of cosines and sines if they look it: numpy may have made them."""
        frozen = [*model.buffers(), *(one for one in model.parameters() if not one.requires_grad)]
        for tensor in frozen:
            if not self.of(tensor).table and looks_like_a_table(tensor):
                self._tags[tensor] = Tag(table=COS | SIN)

    def _current_path(self) -> str:
        return self._path[-1] if self._path else ""

    @contextmanager
    def following(self, model: torch.nn.Module) -> Iterator[None]:
        """Know which module of `model` is at work inside the block."""
        handles = []
        for name, module in model.named_modules():
            enter: Callable = lambda *_, name=name: self._path.append(name)  # noqa: E731
            leave: Callable = lambda *_: self._path.pop() and None  # noqa: E731
            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def begin(self, tensors: Iterable[Any]) -> None:
        """Count anew; floating-point inputs of the model are activations."""
        self.rotations, self._written, self._path = Rotations(), {}, []
        for tensor, tag in list(self._tags.items()):  # of an earlier call that failed
            self._tags[tensor] = replace(tag, rotated=frozenset())
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                self._tags[tensor] = Tag(active=True)


def looks_like_a_table(tensor: torch.Tensor) -> bool:
    """[positions, …] within ±1, all of it 0 or 1 at position 0 and something else at position 1."""
    if tensor.ndim < 2 or len(tensor) < 2 or not tensor.is_floating_point() or tensor.abs().max() > 1:
        return False
    first, second = tensor[0], tensor[1]
    return bool(((first == 0) | (first == 1)).all() and ((second != 0) & (second.abs() != 1)).any())


def _union(tags: list[Tag], active: bool) -> Tag:
    if not tags:
        return NOTHING
    table = frozenset().union(*(tag.table for tag in tags))
    product = frozenset().union(*(tag.product for tag in tags))
    rotated = frozenset().union(*(tag.rotated for tag in tags))
    return Tag(table if not active else frozenset(), product, rotated, active)


def count(
    make: Callable[[], torch.nn.Module], feeds: Callable[[torch.nn.Module], Iterable[dict[str, Any]]]
) -> tuple[torch.nn.Module, dict[str, Any], list[str]]:
    """The model that `make` returns, the first of its `feeds` that it runs with, and where it then rotates: the path of
    the module, once for each rotation. Raises what the model raised for the last of them if it runs with none."""
    watch = Watch()
    with watch:
        model = make()
    watch.recognise(model)
    failure: Exception | None = None
    for given in feeds(model):
        watch.begin(given.values())
        try:
            with watch, watch.following(model), torch.no_grad():
                model(**given)
        except Exception as error:  # the model's code may raise anything
            failure = error
        else:
            return model, given, watch.rotations.applied()
    raise failure or ValueError("It takes none of the inputs that are known here.")
