"""Check the functions of a file: none calls itself, and inlined they still make a graph that memory can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from rope_deploy.graph.validation.graphs import all_nodes
from rope_deploy.graph.validation.unsound_error import Unsound, quoted_name

MOST_NODES = 200_000
DEEPEST = 32
TOO_DEEP = f"it has more than {DEEPEST} functions that call each other in a row"
Key = tuple[str, str, str]


def key_of(one: onnx.NodeProto | onnx.FunctionProto) -> Key:
    name = one.op_type if isinstance(one, onnx.NodeProto) else one.name
    return "" if one.domain == "ai.onnx" else one.domain, name, one.overload


def functions_of(model: onnx.ModelProto) -> dict[Key, onnx.FunctionProto]:
    """The functions by the domain, name and overload that their callers state. Raises Unsound if one is ill-formed."""
    found: dict[Key, onnx.FunctionProto] = {}
    for function in model.functions:
        if not function.name or not isinstance(function.name, str) or not isinstance(function.domain, str):
            raise Unsound("it has a function without a name")
        if key_of(function) in found:
            raise Unsound(f"there are two functions called {quoted_name(function.name)}")
        if not function.node:
            raise Unsound(f"the function {quoted_name(function.name)} does nothing")
        for names in (function.input, function.output, function.attribute):
            if len(set(names)) != len(names) or not all(isinstance(name, str) and name for name in names):
                raise Unsound(
                    f"the function {quoted_name(function.name)} has two parameters of one name, or one without"
                )
        found[key_of(function)] = function
    return found


def check_calls(model: onnx.ModelProto, functions: Mapping[Key, onnx.FunctionProto]) -> None:
    """Raise Unsound if a function calls itself, is called with more than it takes, or all of them grow too large."""
    sizes: dict[Key, tuple[int, int]] = {}
    for function in functions.values():
        _size(key_of(function), functions, sizes, ())
    _sum(model.graph.node, functions, sizes, ())


def _size(
    key: Key, functions: Mapping[Key, onnx.FunctionProto], sizes: dict[Key, tuple[int, int]], callers: tuple[Key, ...]
) -> tuple[int, int]:
    """(nodes, depth of calls) of an inlined function."""
    if key in callers:
        raise Unsound(f"the function {quoted_name(key[1])} calls itself")
    if len(callers) > DEEPEST:
        raise Unsound(TOO_DEEP)
    if key not in sizes:
        sizes[key] = _sum(functions[key].node, functions, sizes, (*callers, key))
    return sizes[key]


def _sum(nodes: Iterable[onnx.NodeProto], functions, sizes, callers: tuple[Key, ...]) -> tuple[int, int]:
    total, depth = 0, 0
    for node in all_nodes(nodes):
        key = key_of(node)
        if key not in functions:
            total += 1
        else:
            function = functions[key]
            if len(node.input) > len(function.input) or len(node.output) > len(function.output):
                raise Unsound(
                    f"a node gives or takes more than the function {quoted_name(function.name)} has parameters"
                )
            nodes_within, calls = _size(key, functions, sizes, callers)
            total, depth = total + nodes_within, max(depth, calls + 1)
        if total > MOST_NODES:
            raise Unsound(f"it has more than {MOST_NODES} nodes, written out")
        if depth > DEEPEST:
            raise Unsound(TOO_DEEP)
    return total, depth
