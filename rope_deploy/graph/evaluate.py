"""Partial evaluation: run the few nodes between some bound values and some wanted ones, with numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

Trig = Callable[[np.ndarray], np.ndarray]
# Values above this size would be weights; nothing that is evaluated here reads a weight. (A table of a million
# positions has 256 MB.)
LARGEST_CONSTANT = 512 << 20
# Constants above this size are handed over as they lie on disk; written into the part they would be copied twice.
LARGEST_WRITTEN = 64 << 10


class NotEvaluable(Exception):
    """The wanted values cannot be computed: something they depend on was not bound, or numpy has no such operator."""


def evaluate(
    wanted: Sequence[ir.Value],
    bound: Mapping[ir.Value, np.ndarray],
    *,
    cos: Trig | None = None,
    sin: Trig | None = None,
) -> list[np.ndarray]:
    """Compute `wanted` from `bound`; the graph above `bound` is not looked at.

    `cos` and `sin` replace numpy's, so that a table can be made with the very functions of the framework
    that the model ran in (numpy's and PyTorch's differ in the last bit). Raises NotEvaluable.
    """
    bound = {v: v.const_value.numpy() for v in wanted if v.const_value is not None} | dict(bound)
    nodes, constants = _between(wanted, bound)
    bound |= {value: value.const_value.numpy() for value in constants if value.const_value.nbytes > LARGEST_WRITTEN}
    if not nodes:
        return [_known(value, bound) for value in wanted]
    used = {value for node in nodes for value in node.inputs if value is not None}
    feeds = {value.name: array for value, array in bound.items() if value in used}
    graph = onnx.helper.make_graph(
        [ir.to_proto(node) for node in nodes],
        "part",
        [_info(name, array.dtype) for name, array in feeds.items()],
        [onnx.helper.make_empty_tensor_value_info(value.name) for value in dict.fromkeys(wanted) if value not in bound],
        [ir.to_proto(_named_tensor(value)) for value in constants if value not in bound],
    )
    opset = _opset(nodes[0])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    try:
        results = ReferenceEvaluator(model, new_ops=[GatherElements, *_trig_ops(cos, sin)]).run(None, feeds)
    except Exception as error:  # the evaluator raises whatever numpy does, and several kinds of its own
        raise NotEvaluable((str(error).strip().splitlines() or [type(error).__name__])[0]) from error
    found = dict(zip((output.name for output in graph.output), results, strict=True))
    return [found[value.name] if value.name in found else _known(value, bound) for value in wanted]


def _known(value: ir.Value, bound: Mapping[ir.Value, np.ndarray]) -> np.ndarray:
    if value not in bound:
        raise NotEvaluable(f"{value.name} is not known")
    return bound[value]


def ancestors(
    wanted: Sequence[ir.Value], stop: Mapping[ir.Value, object] | set[ir.Value] = frozenset()
) -> Iterator[ir.Node]:
    """Every node that `wanted` depends on, not looking above the values in `stop`; each after its inputs."""
    seen: set[ir.Node] = set()
    stack = [(value.producer(), False) for value in wanted if value not in stop and value.producer() is not None]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
            continue
        if node in seen:
            continue
        seen.add(node)
        stack.append((node, True))
        for value in node.inputs:
            if value is not None and value not in stop and value.producer() is not None:
                stack.append((value.producer(), False))


def _between(wanted, bound) -> tuple[list[ir.Node], list[ir.Value]]:
    nodes = list(ancestors(wanted, bound))
    made = {output for node in nodes for output in node.outputs}
    constants: dict[ir.Value, None] = {}
    for node in nodes:
        for value in node.inputs:
            if value is None or value in made or value in bound:
                continue
            if value.const_value is None or value.const_value.nbytes > LARGEST_CONSTANT:
                raise NotEvaluable(f"{value.name} is not known")
            constants[value] = None
    return nodes, list(constants)


def _named_tensor(value: ir.Value) -> ir.TensorProtocol:
    return ir.tensor(value.const_value.numpy(), name=value.name, dtype=value.const_value.dtype)


def _info(name: str, dtype: np.dtype) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(dtype), None)


def _opset(node: ir.Node) -> int:
    return node.graph.opset_imports[""]


class GatherElements(OpRun):
    """The reference evaluator's own goes through np.choose, which stops at 64 rows."""

    op_domain = ""

    def _run(self, data, indices, axis=0):
        return (np.take_along_axis(data, indices, axis),)


def _trig_ops(cos: Trig | None, sin: Trig | None) -> list[type[OpRun]]:
    """Operator classes for the reference evaluator; it takes the operator's name from the class."""
    made = []
    for name, function in (("Cos", cos), ("Sin", sin)):
        if function is not None:
            run = staticmethod(lambda x, _f=function: (_f(x),))
            made.append(type(name, (OpRun,), {"op_domain": "", "_run": lambda self, x, _r=run: _r.__func__(x)}))
    return made
