"""Replace complex numbers in an exported program by pairs of real ones: ONNX has no complex types.

Some families rotate pairs by multiplying complex numbers. Every complex tensor [..., n] becomes a real one
[..., n, 2] of real and imaginary parts, and every operator on it the same operator on all axes but the last.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from torch.fx import Node

aten = torch.ops.aten

# Operators that only move elements, and which of their arguments are axes, counted from the front or the back.
AXES = {
    aten.unsqueeze.default: (1,), aten.slice.Tensor: (1,), aten.select.int: (1,), aten.index_select.default: (1,),
    aten.squeeze.dim: (1,), aten.squeeze.dims: (1,), aten.transpose.int: (1, 2), aten.permute.default: (1,),
    aten.flatten.using_ints: (1, 2), aten.unflatten.int: (1,), aten.flip.default: (1,), aten.roll.default: (2,),
    aten.narrow.default: (1,), aten.split.Tensor: (2,), aten.split_with_sizes.default: (2,), aten.chunk.default: (2,),
    aten.unbind.int: (1,), aten.repeat_interleave.self_int: (2,), aten.movedim.int: (1, 2),
}  # fmt: skip
# The default of an axis that is left out.
FIRST_AXIS, LAST_AXIS = 0, -1
# The second argument is a size for each axis; parts keep theirs.
SHAPED = frozenset({aten.view.default, aten.reshape.default, aten.expand.default})
# Each part on its own.
APART = frozenset({aten.add.Tensor, aten.sub.Tensor, aten.neg.default})
CONJUGATE = frozenset({aten.conj.default, aten._conj.default, aten.conj_physical.default})
# A cast from one complex type to another changes nothing here: angles and their products are fp32 throughout.
KEPT = frozenset({
    aten.clone.default, aten.contiguous.default, aten.detach.default, aten.alias.default,
    aten._to_copy.default, aten.to.dtype, aten.to.device, aten.to.dtype_layout, aten.lift_fresh_copy.default,
    aten.resolve_conj.default,
})  # fmt: skip


def replace_complex_values(program: torch.export.ExportedProgram) -> None:
    """Replace every complex value of `program` in place. An operator not known here is left for others to refuse."""
    graph = program.graph
    real: dict[Node, Node] = {}
    for node in list(graph.nodes):
        is_complex = _complex(node.meta.get("val"))
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
            made = _on_parts(graph, node, real)
        if made is None:
            continue
        if is_complex:
            real[node] = made
        else:
            made.meta.update(node.meta)
            node.replace_all_uses_with(made)
            program.graph_signature.replace_all_uses(node.name, made.name)
    graph.eliminate_dead_code()


def _complex(value: object) -> bool:
    """Whether a value is a complex tensor, or several of them."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return isinstance(first, torch.Tensor) and first.is_complex()


def _store_parts(program: torch.export.ExportedProgram, node: Node) -> None:
    """A complex tensor that the model keeps is kept as its parts; the model's own stays what it is."""
    (target,) = (spec.target for spec in program.graph_signature.input_specs if spec.arg.name == node.name)
    kept = program.state_dict if target in program.state_dict else program.constants
    kept[target] = torch.view_as_real(kept[target].resolve_conj()).contiguous()
    node.meta["val"] = torch.view_as_real(node.meta["val"])


def _on_parts(graph: torch.fx.Graph, node: Node, real: dict[Node, Node]) -> Node | None:
    """`node` on parts instead of complex numbers; None if its operator is not known."""
    target, args = node.target, node.args
    call = _caller(graph, node)
    if target is aten.view_as_complex.default:
        return args[0]
    if target is aten.view_as_real.default:
        return real.get(args[0])
    if target is aten.polar.default:
        return _polar(call, *args)
    if target is aten.complex.default:
        return call(aten.stack.default, list(args), -1)
    if target is aten.mul.Tensor:
        return _product(call, *args, real)
    if target is aten.div.Tensor and args[1] not in real:
        return call(target, real[args[0]], _beside_parts(call, args[1]))
    if target in APART and all(a in real for a in args) and not node.kwargs:
        return call(target, *(real[a] for a in args))
    if target in (aten.cat.default, aten.stack.default) and all(a in real for a in args[0]):
        return call(target, [real[a] for a in args[0]], _axis(args[1] if len(args) > 1 else FIRST_AXIS))
    if args and args[0] in real:
        return _of_one(call, target, real[args[0]], args[1:])
    return None


def _of_one(call: Callable[..., Node], target, parts: Node, rest: tuple) -> Node | None:
    """An operator on one complex tensor, whose `parts` lie along one axis more."""
    if target in AXES:
        last = max(AXES[target])
        given = [*rest, *[FIRST_AXIS] * (last - len(rest))]
        if target is aten.flatten.using_ints:
            given[1] = rest[1] if len(rest) > 1 else LAST_AXIS
        moved = [_axis(a) if n in AXES[target] else a for n, a in enumerate(given, 1)]
        if target is aten.permute.default:
            moved[0] = [*moved[0], LAST_AXIS]
        return call(target, parts, *moved)
    if target in SHAPED:
        return call(target, parts, [*rest[0], 2])
    if target is aten.repeat.default:
        return call(target, parts, [*rest[0], 1])
    if target in (aten.index.Tensor, aten.squeeze.default, operator.getitem):
        return call(target, parts, *rest)
    if target in KEPT:
        return parts
    if target in (aten.real.default, aten.imag.default):
        return _parts(call, parts)[int(target is aten.imag.default)]
    if target in CONJUGATE:
        re, im = _parts(call, parts)
        return call(aten.stack.default, [re, call(aten.neg.default, im)], -1)
    if target is aten.exp.default:
        re, im = _parts(call, parts)
        return _polar(call, call(aten.exp.default, re), im)
    if target is aten.abs.default:
        re, im = _parts(call, parts)
        squares = [call(aten.mul.Tensor, one, one) for one in (re, im)]
        return call(aten.sqrt.default, call(aten.add.Tensor, *squares))
    return None


def _axis(axis: int | list[int]) -> int | list[int]:
    """An axis of a complex tensor, or several, as axes of its parts: these have one more, behind all others."""
    if isinstance(axis, (list, tuple)):
        return [_axis(one) for one in axis]
    return axis if axis >= 0 else axis - 1


def _parts(call: Callable[..., Node], parts: Node) -> list[Node]:
    """The real and the imaginary part, as they were before they were put side by side if they just were."""
    if parts.target is aten.stack.default and parts.args[1:] == (-1,) and len(parts.args[0]) == 2:
        return list(parts.args[0])
    return [call(aten.select.int, parts, -1, part) for part in (0, 1)]


def _polar(call: Callable[..., Node], length: Node, angle: Node) -> Node:
    """length · (cos angle + i sin angle)."""
    parts = [call(aten.mul.Tensor, length, call(function, angle)) for function in (aten.cos.default, aten.sin.default)]
    return call(aten.stack.default, parts, -1)


def _beside_parts(call: Callable[..., Node], factor: Node | float) -> Node | float:
    """A real factor as it meets the parts of a complex tensor."""
    return call(aten.unsqueeze.default, factor, -1) if isinstance(factor, Node) else factor


def _product(call: Callable[..., Node], a: Node | complex, b: Node | complex, real: dict[Node, Node]) -> Node:
    """(a + bi)(c + di) = (ac − bd) + (ad + bc)i; a real factor scales both parts, a constant is known."""
    mul = aten.mul.Tensor
    if a not in real and b not in real:  # a real tensor times a complex number
        tensor, number = (a, complex(b)) if isinstance(a, Node) else (b, complex(a))
        return call(aten.stack.default, [call(mul, tensor, part) for part in (number.real, number.imag)], -1)
    if a in real and b in real:
        (re_a, im_a), (re_b, im_b) = (_parts(call, real[x]) for x in (a, b))
    else:
        parts, factor = (real[a], b) if a in real else (real[b], a)
        if not isinstance(factor, complex):
            return call(mul, parts, _beside_parts(call, factor))
        (re_a, im_a), (re_b, im_b) = _parts(call, parts), (factor.real, factor.imag)
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
