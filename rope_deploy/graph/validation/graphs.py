"""Check the values of a graph: every name is made once and before it is read, and every type is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import onnx

from rope_deploy.graph.validation.external_files import ExternalFiles
from rope_deploy.graph.validation.tensors import KNOWN_TYPES, LONGEST_AXIS, check_tensor
from rope_deploy.graph.validation.unsound_error import Unsound, node_label, quoted_name

DEEPEST = 16  # graphs within graphs
Check = Callable[[onnx.NodeProto], None]


def check_graph(
    graph: onnx.GraphProto, files: ExternalFiles, check: Check, outer: Sequence[set[str]] = (), *, inner: bool = False
) -> None:
    """Raise Unsound unless `graph` is sound; nodes that are out of order are put in order.

    `check` raises Unsound for a node that is wrong by itself; `outer` are the names visible from around the graph.
    """
    if len(outer) > DEEPEST:
        raise Unsound(f"it has more than {DEEPEST} graphs within each other")
    if graph.sparse_initializer:
        raise Unsound(
            f"{quoted_name(graph.sparse_initializer[0].values.name)} is a sparse tensor, which is not read here"
        )
    known: set[str] = set()
    for tensor in graph.initializer:
        _check_name(tensor.name, "a tensor")
        if tensor.name in known:
            raise Unsound(f"there are two tensors called {quoted_name(tensor.name)}")
        known.add(tensor.name)
        check_tensor(tensor, f"the tensor {quoted_name(tensor.name)}", files)
    inputs: set[str] = set()
    for value in graph.input:
        check_value(value, "the input", untyped=inner)
        if value.name in inputs:
            raise Unsound(f"there are two inputs called {quoted_name(value.name)}")
        inputs.add(value.name)
    for value in graph.value_info:
        check_value(value, "the value", untyped=True)
    for value in graph.output:
        check_value(value, "the output", untyped=True)
    defined = check_nodes(graph, known | inputs, files, check, outer)
    results = [value.name for value in graph.output]
    if lost := next((name for name in results if not _within(name, defined, outer if inner else ())), None):
        raise Unsound(f"nothing makes its output {quoted_name(lost)}")
    if not inner and len(set(results)) != len(results):
        raise Unsound("it has two outputs of one name")


def check_nodes(
    owner: onnx.GraphProto | onnx.FunctionProto,
    given: set[str],
    files: ExternalFiles,
    check: Check,
    outer: Sequence[set[str]] = (),
) -> set[str]:
    """Check the nodes of a graph or function that start from the names `given`; returns all names in it."""
    made = set(given)
    for node in owner.node:
        for text in (node.op_type, node.domain, node.name, *node.input, *node.output):
            _check_name(text, "a node", empty=True)
        if not node.op_type:
            raise Unsound(f"{node_label(node)} names no operator")
        if not any(node.output):
            raise Unsound(f"{node_label(node)} makes nothing")
        for name in filter(None, node.output):
            if name in made:
                raise Unsound(f"{quoted_name(name)} is made twice, the second time by {node_label(node)}")
            made.add(name)
        if node.domain == "ai.onnx":
            node.domain = ""
        check(node)
    _put_in_order(owner, given, made, outer)
    defined = set(given)
    for node in owner.node:
        for graph in subgraphs(node):
            check_graph(graph, files, check, (*outer, defined), inner=True)
        defined.update(node.output)
    return made


def check_value(value: onnx.ValueInfoProto, what: str, *, untyped: bool = False) -> None:
    """Raise Unsound unless `value` is a tensor of a known type whose axes make sense; an axis of −1 is an open one.

    `untyped` values may leave out their type.
    """
    _check_name(value.name, what)
    kind = value.type.WhichOneof("value")
    if kind is None and untyped:
        return
    if kind != "tensor_type":
        of = "no type" if kind is None else f"the type {kind.removesuffix('_type')}; only tensors are read here"
        raise Unsound(f"{what} {quoted_name(value.name)} has {of}")
    tensor = value.type.tensor_type
    if tensor.elem_type not in KNOWN_TYPES and not (untyped and tensor.elem_type == 0):
        raise Unsound(f"{what} {quoted_name(value.name)} has elements of an unknown type, number {tensor.elem_type}")
    for dim in tensor.shape.dim:
        if dim.HasField("dim_param"):
            _check_name(dim.dim_param, f"an axis of {quoted_name(value.name)}", empty=True)
        elif dim.HasField("dim_value") and dim.dim_value == -1:
            dim.Clear()
        elif not 0 <= dim.dim_value <= LONGEST_AXIS:
            raise Unsound(f"{what} {quoted_name(value.name)} has an axis of {dim.dim_value} elements")


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Every node, those of graphs inside nodes too."""
    stack = [iter(nodes)]
    while stack:
        node = next(stack[-1], None)
        if node is None:
            stack.pop()
            continue
        yield node
        stack += [iter(graph.node) for graph in subgraphs(node)]


def _put_in_order(owner, given: set[str], made: set[str], outer: Sequence[set[str]]) -> None:
    """Sort nodes so that each comes after what it reads. Raises Unsound for an unknown name, and for a cycle."""
    reads = [_reads(node) for node in owner.node]
    for node, names in zip(owner.node, reads, strict=True):
        if lost := next((name for name in names if not _within(name, made, outer)), None):
            raise Unsound(f"{node_label(node)} reads {quoted_name(lost)}, which nothing makes")
    available = set(given)
    for node, names in zip(owner.node, reads, strict=True):
        if any(name in made and name not in available for name in names):
            break
        available.update(node.output)
    else:
        return
    makers = {name: number for number, node in enumerate(owner.node) for name in node.output if name}
    waits = [{makers[name] for name in names if name in makers and name not in given} for names in reads]
    readers: list[list[int]] = [[] for _ in waits]
    for number, needed in enumerate(waits):
        for maker in needed:
            readers[maker].append(number)
    ready = [number for number, needed in enumerate(waits) if not needed][::-1]
    order: list[int] = []
    while ready:
        number = ready.pop()
        order.append(number)
        for reader in readers[number]:
            waits[reader].discard(number)
            if not waits[reader]:
                ready.append(reader)
    if len(order) < len(waits):
        stuck = next(number for number, needed in enumerate(waits) if needed)
        raise Unsound(f"{node_label(owner.node[stuck])} lies on a circle: it depends on what it makes")
    ordered = [owner.node[number] for number in order]
    del owner.node[:]
    owner.node.extend(ordered)


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, including those that its subgraphs read from around them."""
    names = {name for name in node.input if name}
    for graph in subgraphs(node):
        names |= _free(graph)
    return names


def _free(graph: onnx.GraphProto, depth: int = 0) -> set[str]:
    if depth > DEEPEST:
        raise Unsound(f"it has more than {DEEPEST} graphs within each other")
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    read = {value.name for value in graph.output if value.name}
    for node in graph.node:
        own.update(node.output)
        read.update(name for name in node.input if name)
        for inside in subgraphs(node):
            read |= _free(inside, depth + 1)
    return read - own


def _within(name: str, defined: set[str], outer: Sequence[set[str]]) -> bool:
    return name in defined or any(name in names for names in outer)


def _check_name(name: object, what: str, *, empty: bool = False) -> None:
    """Raise Unsound for a name that is missing, or not UTF-8: protobuf returns such a name as bytes."""
    if not isinstance(name, str):
        raise Unsound(f"{what} has a name that is no text: {quoted_name(str(name))}")
    if not name and not empty:
        raise Unsound(f"{what} has no name")
