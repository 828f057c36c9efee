"""Partial evaluation: run the few nodes between some bound values and some wanted ones, with numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx_ir.serde import serialize_node, serialize_tensor

from rope_deploy.errors import UnmatchedRotation
from rope_deploy.graph.analysis.result_size import refusal

Trig = Callable[[np.ndarray], np.ndarray]
# Values above this size would be weights; nothing that is evaluated here reads a weight. (A table of a million
# positions has 256 MB.)
LARGEST_CONSTANT = 512 << 20
# Constants above this size are passed as inputs, mapped from disk; as constants of the part they would be copied twice.
LARGEST_WRITTEN = 64 << 10
MOST_BYTES = 3 << 30  # held at a time
MOST_WORK = 2**32  # elements made by one evaluation
HALF = {ir.DataType.FLOAT16: "float16", ir.DataType.BFLOAT16: "bfloat16"}


class NotEvaluable(UnmatchedRotation):
    """The wanted values cannot be computed: something they depend on was not bound, an operator refuses its inputs, or
    the work would be too much."""


def evaluate(
    wanted: Sequence[ir.Value],
    bound: Mapping[ir.Value, np.ndarray],
    *,
    cos: Trig | None = None,
    sin: Trig | None = None,
    widened: bool = False,
) -> list[np.ndarray]:
    """Compute `wanted` from `bound`; the graph above `bound` is not looked at.

    `cos` and `sin` replace numpy's, so that a table can be made with the very functions of the framework
    that the model ran in (numpy's and PyTorch's differ in the last bit). `widened` computes in fp32 what the graph
    computes in a half type; constants keep the values that they have in it. Raises NotEvaluable.
    """
    bound = {v: v.const_value.numpy() for v in wanted if v.const_value is not None} | dict(bound)
    nodes, constants = _between(wanted, bound)
    bound |= {value: value.const_value.numpy() for value in constants if value.const_value.nbytes > LARGEST_WRITTEN}
    if not nodes:
        return [_known(value, bound) for value in wanted]
    if widened:
        bound = {value: _wide(array) for value, array in bound.items()}
    used = {value for node in nodes for value in node.inputs if value is not None}
    feeds = {value.name: array for value, array in bound.items() if value in used}
    graph = onnx.helper.make_graph(
        [_widened(serialize_node(node)) if widened else serialize_node(node) for node in nodes],
        "part",
        [_info(name, array.dtype) for name, array in feeds.items()],
        [onnx.helper.make_empty_tensor_value_info(value.name) for value in dict.fromkeys(wanted) if value not in bound],
        [serialize_tensor(_named_tensor(value, widened)) for value in constants if value not in bound],
    )
    opset = _opset(nodes[0])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    try:
        evaluator = ReferenceEvaluator(model, new_ops=[GatherElements, *_trig_ops(cos, sin)])
    except Exception as error:  # it has several kinds of its own for an operator that it does not know
        kinds = ", ".join(sorted({node.op_type for node in nodes}))
        raise NotEvaluable(f"one of {kinds} cannot be evaluated") from error
    found = _run(evaluator, feeds, {output.name for output in graph.output})
    return [found[value.name] if value.name in found else _known(value, bound) for value in wanted]


def _run(evaluator: ReferenceEvaluator, feeds: Mapping[str, np.ndarray], kept: set[str]) -> dict[str, np.ndarray]:
    """Compute the values `kept` node by node; a node's size is checked before it runs, a value dropped after its last
    reader.

    Written for onnx 1.23, whose evaluator lists what it runs in `rt_nodes_` and its constants in `rt_inits_`.
    """
    values = {"": None, **evaluator.rt_inits_, **feeds}
    last = {name: number for number, node in enumerate(evaluator.rt_nodes_) for name in node.input}
    work = held = 0
    for number, node in enumerate(evaluator.rt_nodes_):
        inputs = [values[name] for name in node.input]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.onnx_node.attribute}
        if why := refusal(node.op_type, inputs, attributes):
            raise NotEvaluable(f"{_label(node)} cannot be evaluated: {why}")
        try:
            outputs = node.run(*inputs)
        except Exception as error:  # whatever numpy raises, and several kinds of onnx's own
            shapes = ", ".join(str(list(one.shape)) for one in inputs if isinstance(one, np.ndarray))
            raise NotEvaluable(f"{_label(node)} does not take what it gets: {shapes}") from error
        for name, output in zip(node.output, outputs, strict=False):
            if not isinstance(output, np.ndarray | np.generic):
                raise NotEvaluable(f"{_label(node)} makes no tensor")
            values[name] = np.asarray(output)
            work, held = work + values[name].size, held + values[name].nbytes
        for name in {*node.input, *node.output} - kept - {""}:
            if last.get(name, -1) <= number and name not in feeds and name not in evaluator.rt_inits_:
                held -= values.pop(name).nbytes
        if work > MOST_WORK or held > MOST_BYTES:
            raise NotEvaluable(f"{_label(node)} cannot be evaluated: so far there are {work:.3g} elements")
    return {name: values[name] for name in kept}


def _label(node: OpRun) -> str:
    name = node.onnx_node.name or next(iter(node.output), "")
    return f"{name} ({node.op_type})"


def _known(value: ir.Value, bound: Mapping[ir.Value, np.ndarray]) -> np.ndarray:
    if value not in bound:
        raise NotEvaluable(_unknown(value))
    return bound[value]


def _unknown(value: ir.Value) -> str:
    if value.is_graph_input():
        return f"{value.name} is an input, whose values come only when the graph runs"
    return f"{value.name} is no constant that could be read"


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
                raise NotEvaluable(_unknown(value))
            constants[value] = None
    return nodes, list(constants)


def _named_tensor(value: ir.Value, widened: bool) -> ir.TensorProtocol:
    array = value.const_value.numpy()
    if widened and value.const_value.dtype in HALF:
        return ir.tensor(_wide(array), name=value.name)
    return ir.tensor(array, name=value.name, dtype=value.const_value.dtype)


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.name in HALF.values() else array


def _widened(node: onnx.NodeProto) -> onnx.NodeProto:
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and ir.DataType(attribute.i) in HALF:
            attribute.i = ir.DataType.FLOAT
    return node


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
