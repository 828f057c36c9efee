"""From an exported program to ONNX, without tracing the model a second time.

torch.onnx first decomposes a program into PyTorch's core operators. That runs the whole model through the tracer
again, which is half the time of an export, and most of what it takes apart has an ONNX translation as it stands.
So the few operators that have none are replaced by ones that have, and the decomposition is skipped. A program that
still writes into a tensor, or that uses anything without a translation, is decomposed by torch.onnx after all.
"""

from __future__ import annotations

from unittest import mock

import onnx_ir as ir
import torch

from rope_deploy.models.tracing.complex_to_real import replace_complex_values
from rope_deploy.models.tracing.in_place_writes import replace_writes, writes

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
    replace_complex_values(program)
    _rewrite(program)
    replace_writes(program)
    if not any(writes(node) for node in program.graph.nodes):
        try:
            with mock.patch.object(program, "run_decompositions", lambda *_, **__: program):
                return _convert(program)
        except torch.onnx.errors.OnnxExporterError:
            pass  # nothing is lost: the decomposed program below is torch.onnx's own way, and raises what it raises
    return _convert(program)


def _convert(program: torch.export.ExportedProgram) -> ir.Model:
    return torch.onnx.export(program, opset_version=OPSET, optimize=False, verbose=False).model


def _rewrite(program: torch.export.ExportedProgram) -> None:
    """Replace operators that have no translation by equal ones that have."""
    for node in list(program.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in TRANSPARENT:
            _replace(program, node, node.args[0])
        elif node.target is aten._assert_tensor_metadata.default:
            program.graph.erase_node(node)
        elif node.target in CASTS:
            _rewrite_cast(program, node)
        elif node.target in RENAMED:
            node.target = RENAMED[node.target]
        elif node.target is aten.copy_.default:
            _rewrite_copy(program, node)
        elif node.target is aten.conv3d.default:
            _rewrite_convolution(node)
        elif node.target is aten.scaled_dot_product_attention.default:
            _rewrite_attention(program, node)


def _replace(program: torch.export.ExportedProgram, node: torch.fx.Node, other: torch.fx.Node) -> None:
    """Let `other` stand wherever `node` stood, among the outputs too."""
    node.replace_all_uses_with(other)
    program.graph_signature.replace_all_uses(node.name, other.name)
    program.graph.erase_node(node)


def _rewrite_cast(program: torch.export.ExportedProgram, node: torch.fx.Node) -> None:
    """Every form of `.to` is a cast to the type it produces, or nothing."""
    before, after = (n.meta["val"].dtype for n in (node.args[0], node))
    if before == after:
        _replace(program, node, node.args[0])
    else:
        node.target, node.args, node.kwargs = aten._to_copy.default, (node.args[0],), {"dtype": after}


def _rewrite_attention(program: torch.export.ExportedProgram, node: torch.fx.Node) -> None:
    """torch.onnx groups keys broadcast over the heads (Falcon's multi-query attention) only if the call says so."""
    query, key = (argument.meta["val"].shape for argument in node.args[:2])
    if len(query) == 4 and query[1] != key[1] and not node.kwargs.get("enable_gqa"):
        node.kwargs = {**node.kwargs, "enable_gqa": True}


def _rewrite_convolution(node: torch.fx.Node) -> None:
    """torch.onnx makes up a bias of two axes for a conv3d that has none, and none for a convolution."""
    given = [*node.args, *(None, 1, 0, 1, 1)[len(node.args) - 2 :]]
    x, weight, bias, stride, padding, dilation, groups = given
    wide = [[n] * 3 if isinstance(n, int) else list(n) for n in (stride, padding, dilation)]
    node.target = aten.convolution.default
    node.args = (x, weight, bias, *wide, False, [0, 0, 0], groups)


def _rewrite_copy(program: torch.export.ExportedProgram, node: torch.fx.Node) -> None:
    """A buffer overwritten before anything reads it (LongRoPE keeps its frequencies so) is what overwrote it."""
    buffer, value = node.args[:2]
    readers = [user for user in buffer.users if user is not node]
    (old, new) = (n.meta["val"] for n in (buffer, value))
    alike = old.shape == new.shape and old.dtype == new.dtype
    if buffer.op == "placeholder" and alike and all(node < reader for reader in readers):
        for reader in readers:
            reader.replace_input_with(buffer, value)
        _replace(program, node, value)
