"""The values of a graph: every name made once and before it is read, every type known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import onnx

from rope_deploy.graph.validation.external_files import ExternalFiles
from rope_deploy.graph.validation.faults import Fault, named, node_words
from rope_deploy.graph.validation.tensors import KNOWN_TYPES, LONGEST_AXIS, check_tensor

DEEPEST = 16  # graphs within graphs
Check = Callable[[onnx.NodeProto], None]


def check_graph(
    graph: onnx.GraphProto, files: ExternalFiles, check: Check, outer: Sequence[set[str]] = (), *, inner: bool = False
) -> None:
    """Raise Fault unless `graph` is sound; nodes that are out of order are put in order.

    `check` is what every node must pass by itself, `outer` the names that can be read from around the graph.
    """
    if len(outer) > DEEPEST:
        raise Fault(f"it has more than {DEEPEST} graphs within each other")
    if graph.sparse_initializer:
        raise Fault(f"{named(graph.sparse_initializer[0].values.name)} is a sparse tensor, which is not read here")
    known: set[str] = set()
    for tensor in graph.initializer:
        _text(tensor.name, "a tensor")
        if tensor.name in known:
            raise Fault(f"there are two tensors called {named(tensor.name)}")
        known.add(tensor.name)
        check_tensor(tensor, f"the tensor {named(tensor.name)}", files)
    inputs: set[str] = set()
    for value in graph.input:
        check_value(value, "the input", untyped=inner)
        if value.name in inputs:
            raise Fault(f"there are two inputs called {named(value.name)}")
        inputs.add(value.name)
    for value in graph.value_info:
        check_value(value, "the value", untyped=True)
    for value in graph.output:
        check_value(value, "the output", untyped=True)
    defined = check_nodes(graph, known | inputs, files, check, outer)
    results = [value.name for value in graph.output]
    if lost := next((name for name in results if not _within(name, defined, outer if inner else ())), None):
        raise Fault(f"nothing makes its output {named(lost)}")
    if not inner and len(set(results)) != len(results):
        raise Fault("it has two outputs of one name")


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
            _text(text, "a node", empty=True)
        if not node.op_type:
            raise Fault(f"{node_words(node)} names no operator")
        if not any(node.output):
            raise Fault(f"{node_words(node)} makes nothing")
        for name in filter(None, node.output):
            if name in made:
                raise Fault(f"{named(name)} is made twice, the second time by {node_words(node)}")
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
    """Raise Fault unless `value` is a tensor of a known type whose axes make sense; an axis of −1 is an open one.

    `untyped` values may leave out their type.
    """
    _text(value.name, what)
    kind = value.type.WhichOneof("value")
    if kind is None and untyped:
        return
    if kind != "tensor_type":
        of = "no type" if kind is None else f"the type {kind.removesuffix('_type')}; only tensors are read here"
        raise Fault(f"{what} {named(value.name)} has {of}")
    tensor = value.type.tensor_type
    if tensor.elem_type not in KNOWN_TYPES and not (untyped and tensor.elem_type == 0):
        raise Fault(f"{what} {named(value.name)} has elements of an unknown type, number {tensor.elem_type}")
    for dim in tensor.shape.dim:
        if dim.HasField("dim_param"):
            _text(dim.dim_param, f"an axis of {named(value.name)}", empty=True)
        elif dim.HasField("dim_value") and dim.dim_value == -1:
            dim.Clear()
        elif not 0 <= dim.dim_value <= LONGEST_AXIS:
            raise Fault(f"{what} {named(value.name)} has an axis of {dim.dim_value} elements")


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
    """Sort nodes so that each comes after what it reads. Raises Fault for a name nobody makes, and for a circle."""
    reads = [_reads(node) for node in owner.node]
    for node, names in zip(owner.node, reads, strict=True):
        if lost := next((name for name in names if not _within(name, made, outer)), None):
            raise Fault(f"{node_words(node)} reads {named(lost)}, which nothing makes")
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
        raise Fault(f"{node_words(owner.node[stuck])} lies on a circle: it depends on what it makes")
    ordered = [owner.node[number] for number in order]
    del owner.node[:]
    owner.node.extend(ordered)


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, those that graphs inside it take from around them too."""
    names = {name for name in node.input if name}
    for graph in subgraphs(node):
        names |= _free(graph)
    return names


def _free(graph: onnx.GraphProto, depth: int = 0) -> set[str]:
    if depth > DEEPEST:
        raise Fault(f"it has more than {DEEPEST} graphs within each other")
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


def _text(name: object, what: str, *, empty: bool = False) -> None:
    """protobuf hands out bytes where a name is not UTF-8."""
    if not isinstance(name, str):
        raise Fault(f"{what} has a name that is no text: {named(str(name))}")
    if not name and not empty:
        raise Fault(f"{what} has no name")
