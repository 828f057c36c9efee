"""Recognise a rotation by what it computes: each output element is a signed sum of two products.

    out[h] = ±x[a(h)] · C[p, h] ± x[b(h)] · S[p, h]

x is an activation, C and S depend on the positions alone, and everything else in the fragment only moves or
negates. Sending an index ramp through that movement yields a and b; evaluating C and S on the positions yields
the table. If a is the identity and b swaps the elements of pairs, it is a rotation, and the pairs are its layout:
(h, h + R/2) is half-split, (2i, 2i + 1) is interleaved. No exporter's way of writing it is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import onnx_ir as ir

from rope_deploy.errors import UnmatchedRotation
from rope_deploy.graph.analysis.data_movement import MOVES, Marks, common_origins, moved_inputs, ramp
from rope_deploy.graph.analysis.dependence import Dependence
from rope_deploy.graph.analysis.dummy_inputs import SIZES, size_of
from rope_deploy.graph.analysis.evaluate import NotEvaluable, evaluate

BOTH = Dependence.POSITION | Dependence.ACTIVATION
# How far below the sum of products its other half may be joined to it (Unsqueeze, Concat, Reshape, Concat).
STEPS = 5
MOST_FOLLOWED = 2**25  # elements that are sent through a fragment
WIDEST = 2**14  # of a head


class NotARotation(UnmatchedRotation):
    """A fragment looks like a rotation and is none; the message is the reason, shown with the name of its node."""


@dataclass(frozen=True)
class Product:
    """One product of a sum: `moved` (activation) times `factor` (depends on positions); `sign` is ±1."""

    moved: ir.Value
    factor: ir.Value
    sign: int


@dataclass(frozen=True)
class Sum:
    """The value `output` is the sum of two products: it may be part of a rotation."""

    output: ir.Value
    products: tuple[Product, Product]


@dataclass(frozen=True)
class Column:
    """One column of a table: element `index` of the last axis of `factor`, times `sign`."""

    factor: ir.Value
    index: int
    sign: int


@dataclass(frozen=True)
class Match:
    """A recognised rotation of `source` that ends in `root`; both [.., .., .., H] with the axes named by number.

    `cos` and `sin` name the origin of each column of the half-width tables. `order`, where elements move along the
    head, lists the elements of `source` in the order to rotate them in. `element_order`, where pairs are neither
    halves nor neighbours, lists the elements of the result in the order in which they then come out.
    """

    source: ir.Value
    root: ir.Value
    sequence_axis: int
    heads_axis: int
    num_heads: int
    head_dim: int
    rotary_dim: int
    interleaved: bool
    cos: tuple[Column, ...]
    sin: tuple[Column, ...]
    order: tuple[int, ...] | None
    element_order: tuple[int, ...] | None = None


def find_sums(graph: ir.Graph, marks: Marks) -> list[Sum]:
    """Every Add or Sub of two products of one activation factor and one position factor each."""
    found = []
    for node in graph:
        if node.op_type not in ("Add", "Sub") or len(node.inputs) != 2 or marks[node.outputs[0]] != BOTH:
            continue
        signs = (1, -1 if node.op_type == "Sub" else 1)
        first, second = (_product(value, sign, marks) for value, sign in zip(node.inputs, signs, strict=True))
        if first and second:
            found.append(Sum(node.outputs[0], (first, second)))
    return found


def _product(value: ir.Value, sign: int, marks: Marks) -> Product | None:
    """`value`, times `sign`, as one product; it may have been negated."""
    node = value.producer()
    while node is not None and node.op_type == "Neg":
        node, sign = node.inputs[0].producer(), -sign
    if node is None or node.op_type != "Mul":
        return None
    kinds = [marks.get(v, Dependence.NOTHING) for v in node.inputs]
    for moved, factor in ((0, 1), (1, 0)):
        if kinds[factor] == Dependence.POSITION and Dependence.ACTIVATION in kinds[moved]:
            return Product(node.inputs[moved], node.inputs[factor], sign)
    return None


def concrete(shape: ir.Shape | None, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """`shape` in numbers; raises NotARotation when an axis is unknown."""
    if shape is None:
        raise NotARotation("its shape is unknown")
    dims = tuple(size_of(dim, sizes) for dim in shape)
    if None in dims:
        raise NotARotation(f"its axis {shape[dims.index(None)].value!r} is unknown")
    return dims


def recognise(
    found: Sum,
    sums: Mapping[ir.Value, Sum],
    marks: Marks,
    inputs: Mapping[ir.Value, np.ndarray],
    ranks: Sequence[int] = (4,),
    *,
    any_pairs: bool = False,
) -> Match:
    """The rotation that the sum `found` is part of. Raises NotARotation with the reason if it is none.

    `ranks`: how many axes the rotated tensor may have, the likelier first; one of three has no batch. `any_pairs`: a
    pair may be any two elements, as where each half of the head has a half-split rotation of its own.
    """
    read = partial(_match, sums=sums, marks=marks, inputs=inputs, any_pairs=any_pairs)
    origins = common_origins([p.moved for p in found.products], marks)
    if not origins:
        raise NotARotation("its two products do not rotate one common tensor")
    reason = NotARotation(f"its tensor is {origins[0].shape}; four axes were expected")
    # A view as pairs has five axes; the tensor of heads that it is a view of has four.
    for source in (one for rank in ranks for one in origins if one.shape is None or len(one.shape) == rank):
        try:
            return _widen(_cover(found, source, read), marks, read)
        except NotARotation as error:
            reason = error
    raise reason


def _cover(found: Sum, source: ir.Value, read: Callable[[ir.Value, ir.Value], Match]) -> Match:
    """The match that ends at `found` or up to STEPS movements below it, where all of `source` is covered."""
    root, reason = found.output, NotARotation("it covers only part of its tensor")
    for _ in range(STEPS):
        try:
            return read(root, source)
        except NotARotation as error:
            reason = error
        users = _readers(root)
        if len(users) != 1 or (user := users.pop()).op_type not in MOVES:
            break
        root = user.outputs[0]
    raise reason


def _widen(match: Match, marks: Marks, read: Callable[[ir.Value, ir.Value], Match]) -> Match:
    """If the rotated tensor was cut from a wider one and joined with the rest again, take the wider one."""
    source, root = match.source, match.root
    while (producer := source.producer()) is not None and producer.op_type in ("Slice", "Split"):
        (source,) = moved_inputs(producer, marks)
        users = _readers(root)
        if len(users) == 1 and (user := users.pop()).op_type == "Concat":
            root = user.outputs[0]
        try:
            match = read(root, source)
        except NotARotation:
            continue  # a slice of a slice: the join may only fit the outer one
    return match


def _readers(value: ir.Value) -> set[ir.Node]:
    """The nodes that read the elements of `value`, not merely its shape."""
    return {node for node, _ in value.uses() if node.op_type not in ("Shape", "Size")}


def _match(root: ir.Value, source: ir.Value, *, sums, marks: Marks, inputs, any_pairs: bool) -> Match:
    """Evaluate the movement from `source` to `root` and read the rotation off it."""
    shape = concrete(source.shape, SIZES)
    if prod(shape) > MOST_FOLLOWED or shape[-1:] > (WIDEST,):
        raise NotARotation(f"its tensor of {prod(shape):.3g} elements is too large to be followed")
    parts = _sums_above(root, source, sums, marks)
    if not parts:
        raise NotARotation("no sum of products leads to it")
    numbers = {source: ramp(shape)}
    try:
        moved = evaluate([p.moved for part in parts for p in part.products], {**inputs, **numbers})
        start = int(np.prod(shape)) + 1
        for part, first in zip(parts, moved[::2], strict=True):
            numbers[part.output] = ramp(first.shape, start)
            start += first.size
        (out,) = evaluate([root], {**inputs, **numbers})
    except NotEvaluable as error:
        raise NotARotation(f"its movement could not be followed: {error}") from error
    if out.shape != shape:
        raise NotARotation("it covers only part of its tensor")
    elements = _elements(out, numbers, parts, moved)
    sequence_axis, heads_axis = _axes(source.shape, [p.factor for part in parts for p in part.products])
    return Match(
        source=source,
        root=root,
        sequence_axis=sequence_axis,
        heads_axis=heads_axis,
        num_heads=with_batch(shape)[heads_axis],
        head_dim=shape[-1],
        **_layout(elements, partial(_is_cosine, inputs=inputs), any_pairs),
    )


def _sums_above(root: ir.Value, source: ir.Value, sums, marks: Marks) -> list[Sum]:
    """The sums between `source` and `root`. Raises NotARotation if anything but movement lies between."""
    found: dict[ir.Value, Sum] = {}
    stack, seen = [root], set()
    while stack:
        value = stack.pop()
        if value in seen or value is source:
            continue
        seen.add(value)
        if value in sums:
            found[value] = sums[value]
            continue
        node = value.producer()
        if node is None or node.op_type not in MOVES:
            raise NotARotation(f"{value.name} is neither moved nor rotated")
        stack.extend(moved_inputs(node, marks))
    return list(found.values())


Term = tuple[int, Column]  # which element of the source's last axis, and the table column it is multiplied by


def _elements(out: np.ndarray, numbers, parts: list[Sum], moved: list[np.ndarray]) -> list[tuple[Term, Term] | None]:
    """The two terms of each element of the last axis, None where it passes through unchanged.

    `out` holds numbers of the ramps in `numbers` (of the source first, then of each part's output). Every token
    and head must be treated alike.
    """
    head = out.shape[-1]
    rows = np.arange(out.size // head)[:, None]
    flat = out.reshape(-1, head)
    which, outer = np.abs(flat).astype(np.int64), np.sign(flat).astype(np.int64)
    ramps = list(numbers.values())
    part = np.searchsorted([int(r.flat[0]) for r in ramps], which, side="right") - 1  # 0: the source itself
    if (part != part[0]).any():
        raise NotARotation("not every token and head is treated alike")

    def moved_from(signed: np.ndarray) -> tuple[list[int], list[int]]:
        row, index = np.divmod(np.abs(signed).astype(np.int64) - 1, head)
        if (row != rows).any():
            raise NotARotation("it moves elements between tokens or heads")
        signs = np.sign(signed)
        if (index != index[0]).any() or (signs != signs[0]).any():
            raise NotARotation("not every token and head is treated alike")
        return index[0].tolist(), signs[0].astype(int).tolist()

    elements: list[tuple[Term, Term] | None] = []
    for h in range(head):
        k = int(part[0, h]) - 1
        if k < 0:
            if moved_from(flat[:, h : h + 1]) != ([h], [1]):
                raise NotARotation(f"element {h} is moved without being rotated")
            elements.append(None)
            continue
        own = ramps[k + 1]
        offset = which[:, h : h + 1] - int(own.flat[0])
        column = int(offset[0, 0] % own.shape[-1])
        terms = []
        for product, array in zip(parts[k].products, moved[2 * k : 2 * k + 2], strict=True):
            (index,), (sign,) = moved_from(np.broadcast_to(array, own.shape).reshape(-1)[offset])
            terms.append((index, Column(product.factor, column, sign * product.sign * int(outer[0, h]))))
        elements.append((terms[0], terms[1]))
    return elements


def _layout(
    elements: list[tuple[Term, Term] | None], is_cosine: Callable[[Column], bool], any_pairs: bool
) -> dict[str, object]:
    """Which elements form pairs, and the table columns of cos and sin: first those of each pair's first element,
    then, to be checked for equality, those of its second.

    Some families read their pairs from one layout and write them in another (DeepSeek-V3: interleaved to
    half-split). `order` is the element of the source that each result is made of, up to its rotation; None if each is
    made of its own. Pairs of any other layout become half-split: `element_order` is the index of each in the result.
    """
    width = sum(terms is not None for terms in elements)
    if width % 2 or any(terms is None for terms in elements[:width]):
        raise NotARotation("the rotated elements are not an even prefix of the head")
    rotated = elements[:width]
    if not all(sum(index == h for index, _ in terms) == 1 for h, terms in enumerate(rotated)):
        rotated = [terms if is_cosine(terms[0][1]) else terms[::-1] for terms in rotated]
    else:
        rotated = [terms if terms[0][0] == h else terms[::-1] for h, terms in enumerate(rotated)]
    order = [terms[0][0] for terms in rotated]
    result = {source: h for h, source in enumerate(order)}
    if sorted(result) != list(range(width)) or any(b not in result or a == b for (a, _), (b, _) in rotated):
        raise NotARotation("an element is not a sum of itself and one partner")
    cos = [terms[0][1] for terms in rotated]
    sin = [terms[1][1] for terms in rotated]
    partner = [result[terms[1][0]] for terms in rotated]
    interleaved = all(partner[h] == h ^ 1 for h in range(width))
    half = all(partner[h] == (h + width // 2) % width for h in range(width))
    if not interleaved and not half and not (any_pairs and all(partner[partner[h]] == h for h in range(width))):
        raise NotARotation("its pairs are neither half-split nor interleaved")
    # With one pair both layouts are the same; it is called half-split.
    interleaved = interleaved and width > 2
    firsts = range(0, width, 2) if interleaved else [h for h in range(width) if h < partner[h]]
    element_order = (
        None if interleaved or half else (*firsts, *(partner[h] for h in firsts), *range(width, len(elements)))
    )
    # first · cos − second · sin, second · cos + first · sin
    negated = [Column(sin[h].factor, sin[h].index, -sin[h].sign) for h in firsts]
    order = [*order, *range(width, len(elements))]
    order = order if element_order is None else [order[h] for h in element_order]
    stays = order == list(range(len(elements)))
    return {
        "rotary_dim": width,
        "interleaved": interleaved,
        "cos": tuple(cos[h] for h in firsts) + tuple(cos[partner[h]] for h in firsts),
        "sin": tuple(negated) + tuple(sin[partner[h]] for h in firsts),
        "order": None if stays else tuple(order),
        "element_order": element_order,
    }


def _is_cosine(column: Column, inputs: Mapping[ir.Value, np.ndarray]) -> bool:
    """Whether a column is a cosine: at position 0, where the first token of an example stands, a sine is nothing."""
    try:
        (values,) = evaluate([column.factor], inputs)
    except NotEvaluable as error:
        raise NotARotation(f"its factors could not be evaluated: {error}") from error
    return bool(values.reshape(-1, values.shape[-1])[0, column.index] != 0)


def with_batch(shape: Sequence) -> tuple:
    """`shape` with four axes: a tensor without one has a batch of 1."""
    return (*(1,) * (4 - len(shape)), *shape)


def _axes(shape: ir.Shape, factors: Sequence[ir.Value]) -> tuple[int, int]:
    """(sequence axis, heads axis) of [B, N, S, H] or [B, S, N, H], a missing batch counted.

    In a graph for one length both are numbers; what it is multiplied with is then the same for all heads.
    """
    shape = with_batch(shape)
    for sequence, heads in ((2, 1), (1, 2)):
        if str(shape[sequence]) == "sequence" and isinstance(shape[heads], int):
            return sequence, heads
    if isinstance(shape[1], int) and isinstance(shape[2], int):
        known = [tuple(factor.shape) for factor in factors if factor.shape is not None]
        for sequence, heads in ((2, 1), (1, 2)):
            if known and all(((1,) * 4 + dims)[-4:][heads] == 1 != ((1,) * 4 + dims)[-4:][sequence] for dims in known):
                return sequence, heads
        for sequence, heads in ((2, 1), (1, 2)):  # one token a call: the axis that is more than one has the heads
            if shape[sequence] == 1:
                return sequence, heads
    raise NotARotation(f"its axes {shape} are not batch, heads, sequence, head_dim")
