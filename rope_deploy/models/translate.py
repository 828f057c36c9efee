"""From an exported program to ONNX, without tracing the model a second time.

torch.onnx first decomposes a program into PyTorch's core operators. That runs the whole model through the tracer
again, which is half the time of an export, and most of what it takes apart has an ONNX translation as it stands.
So the few spellings that have none are replaced by ones that have, and the decomposition is skipped. A program
that writes into a tensor, or that uses anything without a translation, takes torch.onnx's own way.
"""

from __future__ import annotations

import onnx_ir as ir
import torch

OPSET = 23
aten = torch.ops.aten

TRANSPARENT = frozenset({aten.detach.default, aten.detach_.default, aten.lift_fresh_copy.default, aten.alias.default})
CASTS = frozenset({aten.to.dtype, aten.to.device, aten.to.dtype_layout})
RENAMED = {
    aten.__and__.Tensor: aten.bitwise_and.Tensor,
    aten.__or__.Tensor: aten.bitwise_or.Tensor,
}


def translate(program: torch.export.ExportedProgram) -> ir.Model:
    """`program`, which is changed, at opset 23. Raises what torch.onnx raises."""
    _respell(program.graph)
    if not any(_writes(node) for node in program.graph.nodes):
        program.run_decompositions = lambda *_, **__: program
        try:
            return _convert(program)
        except torch.onnx.errors.OnnxExporterError:
            del program.run_decompositions
    return _convert(program)


def _convert(program: torch.export.ExportedProgram) -> ir.Model:
    return torch.onnx.export(program, opset_version=OPSET, optimize=False, verbose=False).model


def _writes(node: torch.fx.Node) -> bool:
    return node.op == "call_function" and getattr(getattr(node.target, "_schema", None), "is_mutable", False)


def _respell(graph: torch.fx.Graph) -> None:
    """Replace operators that have no translation by equal ones that have."""
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in TRANSPARENT:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.target is aten._assert_tensor_metadata.default:
            graph.erase_node(node)
        elif node.target in CASTS:
            _respell_cast(graph, node)
        elif node.target in RENAMED:
            node.target = RENAMED[node.target]


def _respell_cast(graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    """Every spelling of `.to` is a cast to the type it produces, or nothing."""
    before, after = (n.meta["val"].dtype for n in (node.args[0], node))
    if before == after:
        node.replace_all_uses_with(node.args[0])
        graph.erase_node(node)
    else:
        node.target, node.args, node.kwargs = aten._to_copy.default, (node.args[0],), {"dtype": after}
