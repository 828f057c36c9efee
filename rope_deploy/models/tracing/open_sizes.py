"""Trace a module for any size, and know for which sizes the trace holds.

A tracer that meets a condition on sizes has to prove it. Some are always true and it cannot prove them, such as
min(16, length) ≤ length; asked to, it leaves them to be asserted at run time, and an ONNX graph asserts nothing. Some
are true up to a length: a model takes another path in calls longer than its window. So every condition that is left is
tried on many sizes here. One that a call of `reach` tokens breaks is refused; one that only longer calls break is the
limit of the graph.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rope_deploy.errors import ModelError
from rope_deploy.models.torch_private import UserError

BATCH = 3
LENGTHS = (2, 3, 5, 18, 300, 5000)
FEW, MANY = 64, 10**7  # tokens from which on a condition has to hold, and numbers that are lengths
LEAST = 2  # tokens that a tracer takes a past to have, so that what comes after has as many fewer
TOTAL = "total"
DEFERRED = {"prefer_deferred_runtime_asserts_over_guards": True}

Axes = Mapping[int, Any]  # of one tensor: torch.export.Dim, or Dim.DYNAMIC for past + sequence


@dataclass(frozen=True)
class Sized:
    """A traced program, and the most tokens of a call, past included, that it holds for; None if any number."""

    program: torch.export.ExportedProgram
    tokens: int | None = None


def export(flat: torch.nn.Module, args: tuple, axes: tuple[Sequence[Axes], ...], reach: int | None) -> Sized:
    """`flat` for any size of the `axes` of its arguments, or for calls of about `reach` tokens, if it is known.

    The dimensions are called batch, sequence and past. Raises what torch.export raises, and ModelError for a program
    that holds for fewer tokens.
    """
    program = _exported(flat, args, axes, reach)
    tokens = tokens_of(program, _dimensions(program, axes))
    if tokens is not None and tokens < max((reach or 0) - LEAST, 1):
        raise ModelError(
            f"Its code takes another path in some calls of {tokens + 1} tokens, and a graph has one path.",
            exists=f"It is made for {reach} tokens." if reach else "",
        )
    return Sized(program, tokens)


def _exported(flat: torch.nn.Module, args, axes, reach: int | None) -> torch.export.ExportedProgram:
    try:
        return torch.export.export(flat, args, dynamic_shapes=axes, strict=False)
    except UserError as error:
        refusal = error
    for most in (None,) if reach is None else (None, reach, reach - LEAST):
        limited = axes if most is None else _up_to(axes, most)
        try:
            return torch.export.export(flat, args, dynamic_shapes=limited, strict=False, **DEFERRED)
        except UserError as error:
            refusal = error
    raise refusal


def _up_to(axes: tuple[Sequence[Axes], ...], most: int) -> tuple[Sequence[Axes], ...]:
    """The same axes, no length of more than `most`."""

    def limited(dim: Any) -> Any:
        named = isinstance(dim, torch.export.Dim) and dim.__name__ != "batch"
        return torch.export.Dim(dim.__name__, max=most) if named else dim

    known = {name: limited(torch.export.Dim(name)) for name in ("sequence", "past")}
    return tuple([{n: known.get(_called(dim), dim) for n, dim in one.items()} for one in group] for group in axes)


def _called(dim: Any) -> str:
    return dim.__name__ if isinstance(dim, torch.export.Dim) else TOTAL


def _dimensions(program: torch.export.ExportedProgram, axes: tuple[Sequence[Axes], ...]) -> dict[Any, str]:
    """The dimension of each of the program's symbols: batch, sequence, past or total."""
    inputs = set(program.graph_signature.user_inputs)
    inputs_of = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs]
    found: dict[Any, str] = {}
    for node, named in zip(inputs_of, itertools.chain(*axes), strict=True):
        for axis, dim in named.items():
            size = node.meta["val"].shape[axis]
            if isinstance(size, torch.SymInt):
                for symbol in size.node.expr.free_symbols:
                    found.setdefault(symbol, _called(dim))
    return found


def tokens_of(program: torch.export.ExportedProgram, dimensions: Mapping[Any, str]) -> int | None:
    """The most tokens that every condition left in `program` allows; None if any number, 0 if not even one.

    That a size is not 1 is taken for granted by every tracer, lest it be broadcast, and is no condition; neither is
    what holds from a few tokens on.
    """
    conditions = [*_asserted(program), *_guarded(program), *_ranges(program, dimensions)]
    known = [one for one in dict.fromkeys(conditions) if one.free_symbols and one.free_symbols <= dimensions.keys()]
    broken = min(_broken([one for one in known if one.rel_op != "!="], dimensions), default=None)
    return None if broken is None else broken - 1


def _asserted(program: torch.export.ExportedProgram) -> Iterator[Any]:
    """What the program asserts of its sizes, as expressions of their symbols."""
    for node in program.graph.nodes:
        if node.target is torch.ops.aten._assert_scalar.default and isinstance(node.args[0], torch.fx.Node):
            value = node.args[0].meta.get("val")
            if isinstance(value, torch.SymBool) and value.node.expr.is_Relational:
                yield value.node.expr


def _guarded(program: torch.export.ExportedProgram) -> Iterator[Any]:
    """What torch.export assumed and did not report: it reports conditions on one dimension alone."""
    sizes = (node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder")
    mode = next((size.fake_mode for size in sizes if hasattr(size, "fake_mode")), None)
    for guard in [] if mode is None or mode.shape_env is None else mode.shape_env.guards:
        if guard.expr.is_Relational:
            yield guard.expr


def _ranges(program: torch.export.ExportedProgram, dimensions: Mapping[Any, str]) -> Iterator[Any]:
    for symbol, allowed in program.range_constraints.items():
        if symbol in dimensions and getattr(allowed.upper, "is_finite", True):
            yield symbol <= allowed.upper


def _broken(conditions: Sequence[Any], dimensions: Mapping[Any, str]) -> Iterator[int]:
    """The tokens of calls that break a condition: of many sizes, and of those around each number in the conditions."""
    with_past = "past" in dimensions.values()
    for condition in conditions:
        exact = condition.rel_op == "=="
        numbers = {int(n) for n in condition.atoms() if getattr(n, "is_Integer", False) and FEW < n < MANY}
        lengths = sorted({*LENGTHS, *(number + step for number in numbers for step in (-1, 0, 1))})
        pairs = {(length, 0) for length in lengths} if not (exact and with_past) else set()
        pairs |= set(itertools.product(lengths, lengths)) if with_past else set()
        pairs |= {
            (total - past, past) for total in lengths for past in (LEAST, total - LEAST) if with_past and past > 1
        }
        for sequence, past in sorted(pairs):
            if sequence < LEAST or (sequence + past < FEW and not exact):
                continue
            size = {"batch": BATCH, "sequence": sequence, "past": past, TOTAL: sequence + past}
            if not condition.subs({symbol: size[dimensions[symbol]] for symbol in condition.free_symbols}):
                yield sequence + past
