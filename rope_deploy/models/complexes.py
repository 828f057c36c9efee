"""Complex numbers in an exported program, spelled with real ones: ONNX has no complex types.

Some families turn pairs by multiplying complex numbers. Every complex tensor [..., n] becomes a real one
[..., n, 2] of real and imaginary parts, and every operator on it the same operator on all axes but the last.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.fx import Node

aten = torch.ops.aten

# Operators whose second argument is an axis, counted from the front or the back.
AXIS_SECOND = frozenset({aten.unsqueeze.default, aten.slice.Tensor, aten.select.int, aten.index_select.default})
SHAPED = frozenset({aten.view.default, aten.reshape.default, aten.expand.default})
# A cast from one complex type to another is none that matters: angles and their products are fp32 throughout.
KEPT = frozenset({
    aten.clone.default, aten.contiguous.default, aten.detach.default, aten.alias.default,
    aten._to_copy.default, aten.to.dtype, aten.to.device, aten.to.dtype_layout,
})  # fmt: skip


def spell_with_reals(program: torch.export.ExportedProgram) -> None:
    """Replace every complex value of `program` in place. An operator not known here is left for others to refuse."""
    graph = program.graph
    real: dict[Node, Node] = {}
    for node in list(graph.nodes):
        value = node.meta.get("val")
        is_complex = isinstance(value, torch.Tensor) and value.is_complex()
        if node.op == "placeholder" and is_complex:
            _store_parts(program, node)
            real[node] = node
        if node.op != "call_function":
            continue
        if node.target is aten._assert_tensor_metadata.default:
            graph.erase_node(node)  # it would keep a complex value alive
            continue
        if not is_complex and not any(argument in real for argument in node.all_input_nodes):
            continue
        with graph.inserting_before(node):
            made = _spelled(graph, node, real)
        if made is None:
            continue
        if is_complex:
            real[node] = made
        else:
            made.meta.update(node.meta)
            node.replace_all_uses_with(made)
            program.graph_signature.replace_all_uses(node.name, made.name)
    graph.eliminate_dead_code()


def _store_parts(program: torch.export.ExportedProgram, node: Node) -> None:
    """A complex tensor that the model keeps is kept as its parts; the model's own stays what it is."""
    (target,) = (spec.target for spec in program.graph_signature.input_specs if spec.arg.name == node.name)
    kept = program.state_dict if target in program.state_dict else program.constants
    kept[target] = torch.view_as_real(kept[target].resolve_conj()).contiguous()
    node.meta["val"] = torch.view_as_real(node.meta["val"])


def _spelled(graph: torch.fx.Graph, node: Node, real: dict[Node, Node]) -> Node | None:
    """`node` on parts instead of complex numbers; None if its operator is not known."""
    target, args = node.target, node.args
    call = _caller(graph, node)
    if target is aten.view_as_complex.default:
        return args[0]
    if target is aten.view_as_real.default:
        return real.get(args[0])
    if target is aten.polar.default:
        length, angle = args
        parts = [
            call(aten.mul.Tensor, length, call(function, angle)) for function in (aten.cos.default, aten.sin.default)
        ]
        return call(aten.stack.default, parts, -1)
    if target is aten.mul.Tensor:
        return _product(call, *args, real)
    if args and args[0] in real:
        rest = args[1:]
        if target in AXIS_SECOND:
            axis = rest[0] if rest else 0
            return call(target, real[args[0]], axis if axis >= 0 else axis - 1, *rest[1:])
        if target in SHAPED:
            return call(target, real[args[0]], [*rest[0], 2])
        if target in KEPT:
            return real[args[0]]
    return None


def _product(call: Callable[..., Node], a: Node, b: Node, real: dict[Node, Node]) -> Node:
    """(a + bi)(c + di) = (ac − bd) + (ad + bc)i; a real factor scales both parts."""
    if a not in real or b not in real:
        scaled, factor = (real[a], b) if a in real else (real[b], a)
        return call(
            aten.mul.Tensor, scaled, call(aten.unsqueeze.default, factor, -1) if isinstance(factor, Node) else factor
        )
    (re_a, im_a), (re_b, im_b) = ([call(aten.select.int, real[x], -1, part) for part in (0, 1)] for x in (a, b))
    mul = aten.mul.Tensor
    re = call(aten.sub.Tensor, call(mul, re_a, re_b), call(mul, im_a, im_b))
    im = call(aten.add.Tensor, call(mul, re_a, im_b), call(mul, im_a, re_b))
    return call(aten.stack.default, [re, im], -1)


def _caller(graph: torch.fx.Graph, origin: Node) -> Callable[..., Node]:
    """Make nodes that carry a fake value, as torch.onnx expects, and say where they come from as `origin` does."""

    def call(target, *args) -> Node:
        made = graph.call_function(target, args)
        values = torch.fx.node.map_arg(args, lambda node: node.meta["val"])
        made.meta = {key: value for key, value in origin.meta.items() if key != "val"}
        made.meta["val"] = target(*values)
        return made

    return call
