"""Replace writes into tensors by new values, which torch.onnx can translate without decomposing the program first.

    x.div_(y)                 x' = x / y, and x' wherever x was read later
    x[..., :n].copy_(a)       x' = cat(a, b), where slices fill all of an empty x one after the other
    x[..., n:].copy_(b)

A write stays as it is where another name for the same memory could be read afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rope_deploy.models.torch_private import OpOverload, is_mutable, overload_of, schema_of

aten = torch.ops.aten
EMPTY = frozenset({aten.empty.memory_format, aten.new_empty.default, aten.empty_like.default})


def replace_writes(program: torch.export.ExportedProgram) -> None:
    """Replace the writes of `program`, which is changed, wherever the result is certain to be the same."""
    for node in list(program.graph.nodes):
        if node.op == "call_function" and node.target in EMPTY:
            _filled(program.graph, node)
    for node in program.graph.nodes:
        if writes(node):
            _renewed(node)


def writes(node: torch.fx.Node) -> bool:
    return node.op == "call_function" and is_mutable(node.target)


def _renewed(node: torch.fx.Node) -> None:
    """`x.op_(…)` is `op(x, …)`, if x is no other tensor's memory and no other name for its memory is read later."""
    pure, x = _pure(node.target), node.args[0]
    if pure is None or x.op != "call_function" or _shares(x):
        return
    if any(node < reader for name in _names(x, node) for reader in name.users):
        return
    node.target = pure
    for reader in [reader for reader in x.users if node < reader]:
        reader.replace_input_with(x, node)


def _pure(target: OpOverload) -> OpOverload | None:
    """The operator of the same arguments that writes nothing; None if there is none."""
    name = schema_of(target).name.split("::")[-1]
    packet = getattr(aten, name.removesuffix("_"), None) if name.endswith("_") and not name.endswith("__") else None
    found = overload_of(target, packet)
    return found if found is not None and not is_mutable(found) else None


def _names(x: torch.fx.Node, write: torch.fx.Node) -> Iterator[torch.fx.Node]:
    """The other names for the memory of `x`, and the names of these."""
    for user in x.users:
        if user is not write and _shares(user):
            yield user
            yield from _names(user, write)


def _shares(node: torch.fx.Node) -> bool:
    """Whether what `node` returns may be another name for the memory of an argument."""
    schema = schema_of(node.target)
    return schema is None or any(returned.alias_info is not None for returned in schema.returns)


def _filled(graph: torch.fx.Graph, empty: torch.fx.Node) -> None:
    """An empty tensor whose slices along one axis are all copied into, in order, is a concatenation."""
    copies = [copy for piece in empty.users for copy in piece.users if copy.target is aten.copy_.default]
    pieces = [copy.args[0] for copy in copies]
    readers = [user for user in empty.users if user not in pieces]
    if not copies or any(reader < copy for reader in readers for copy in copies):
        return
    if any(piece.target is not aten.slice.Tensor or len(piece.users) != 1 for piece in pieces):
        return
    shape = empty.meta["val"].shape
    bounds = [_bounds(piece, len(shape)) for piece in pieces]
    axis, end = bounds[0][0], 0
    for copy, piece, (along, first, last, step) in zip(copies, pieces, bounds, strict=True):
        (into, value) = (argument.meta["val"] for argument in (piece, copy.args[1]))
        if (along, first, step) != (axis, end, 1) or into.shape != value.shape or into.dtype != value.dtype:
            return
        end = min(last, shape[axis])
    if end != shape[axis]:
        return
    with graph.inserting_after(copies[-1]):
        whole = graph.call_function(aten.cat.default, ([copy.args[1] for copy in copies], axis))
    whole.meta = {**empty.meta}
    for reader in readers:
        reader.replace_input_with(empty, whole)
    for unread in (*copies, *pieces):
        graph.erase_node(unread)


def _bounds(piece: torch.fx.Node, rank: int) -> tuple[int, int, int, int]:
    """Axis, first, last and step of a slice, with the whole axis as the default."""
    axis, first, last, step = (*piece.args[1:], *(0, None, None, 1)[len(piece.args) - 1 :])
    return axis % rank, first or 0, 2**63 - 1 if last is None else last, step
