"""Check a whole model: versions, functions, graphs."""

from __future__ import annotations

from functools import partial

import onnx

from rope_deploy.graph.validation.external_files import ExternalFiles
from rope_deploy.graph.validation.functions import check_calls, functions_of, key_of
from rope_deploy.graph.validation.graphs import check_graph, check_nodes
from rope_deploy.graph.validation.operators import check_node
from rope_deploy.graph.validation.unsound_error import Unsound, quoted_name

OLDEST_IR = 3  # the first that states opsets


def check_model(model: onnx.ModelProto, files: ExternalFiles) -> None:
    """Raise Unsound unless `model` is sound, and normalise it: nodes in order, "ai.onnx" as "", axes of −1 open.

    No data outside the file of the graph are read.
    """
    if not model.graph.node:
        raise Unsound("it holds no operators")
    if not OLDEST_IR <= model.ir_version <= onnx.IR_VERSION:
        raise Unsound(f"it has IR version {model.ir_version}; {OLDEST_IR} to {onnx.IR_VERSION} are read here")
    opsets = _opsets(model)
    for entry in model.metadata_props:
        if not isinstance(entry.key, str) or not isinstance(entry.value, str):
            raise Unsound("it has metadata that are no text")
    functions = functions_of(model)
    check_calls(model, functions)

    def check(node: onnx.NodeProto, versions=opsets, in_function: bool = False) -> None:
        if key_of(node) not in functions:
            check_node(node, versions, files, in_function=in_function)

    for function in functions.values():
        # A node in a function is of the opset that the function states.
        own = _opsets(function)
        for domain in own.keys() & opsets.keys():
            if own[domain] != opsets[domain]:
                raise Unsound(
                    f"the function {quoted_name(function.name)} is of opset {own[domain]} and the graph of "
                    f"{opsets[domain]}; it cannot be written out in place"
                )
        made = check_nodes(function, set(function.input), files, partial(check, versions=own, in_function=True))
        if lost := next((name for name in function.output if name not in made), None):
            raise Unsound(f"nothing makes {quoted_name(lost)}, a result of the function {quoted_name(function.name)}")
    check_graph(model.graph, files, check)


def _opsets(owner: onnx.ModelProto | onnx.FunctionProto) -> dict[str, int]:
    """The version of each domain."""
    found: dict[str, int] = {}
    newest = onnx.defs.onnx_opset_version()
    for entry in owner.opset_import:
        if entry.domain == "ai.onnx":
            entry.domain = ""
        if not isinstance(entry.domain, str):
            raise Unsound("it states the opset of a domain whose name is no text")
        if found.get(entry.domain, entry.version) != entry.version:
            raise Unsound(f"it states two opsets of {quoted_name(entry.domain or 'ai.onnx')}")
        if not 1 <= entry.version <= (newest if entry.domain == "" else 2**31 - 1):
            known = f"; 1 to {newest} are known here" if entry.domain == "" else ""
            raise Unsound(f"it states opset {entry.version} of {quoted_name(entry.domain or 'ai.onnx')}{known}")
        found[entry.domain] = entry.version
    if not found:
        raise Unsound("it states no opset")
    return found
