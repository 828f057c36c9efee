"""Insert nodes into a graph, one call for each, and find the node that made a value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir


class Builder:
    """Inserts nodes directly before or after the node `anchor`; their names begin with `prefix`.

    Nodes are in the order of the calls. Constants become initializers of the graph, or nodes with `constants_as_nodes`,
    for the body of a function, which has no initializers.
    """

    def __init__(self, anchor: ir.Node, prefix: str, *, after: bool = True, constants_as_nodes: bool = False):
        self._anchor, self._prefix, self._after = anchor, prefix, after
        self._graph, self._count, self._as_nodes = anchor.graph, 0, constants_as_nodes

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        domain: str = "",
        dtype: ir.DataType | None = None,
        shape: ir.Shape | Sequence | None = None,
        name: str | None = None,
        **attributes,
    ) -> ir.Value:
        """Insert a node with one output, and return that."""
        return self.ops(op_type, *inputs, domain=domain, outputs=[(name, dtype, shape)], **attributes)[0]

    def ops(
        self, op_type: str, *inputs: ir.Value | None, domain: str = "", outputs: Sequence[tuple], **attributes
    ) -> tuple[ir.Value, ...]:
        """Insert a node with `outputs`, each (name or None, dtype or None, shape or None), and return these."""
        self._count += 1
        stem = f"{self._prefix}/{op_type}_{self._count}"
        values = [
            ir.Value(
                name=name or f"{stem}_{index}",
                type=None if dtype is None else ir.TensorType(dtype),
                shape=shape if shape is None or isinstance(shape, ir.Shape) else ir.Shape(shape),
            )
            for index, (name, dtype, shape) in enumerate(outputs)
        ]
        node = ir.node(op_type, list(inputs), attributes or None, domain=domain, outputs=values, name=stem)
        if self._after:
            self._graph.insert_after(self._anchor, node)
            self._anchor = node
        else:
            self._graph.insert_before(self._anchor, node)
        return tuple(values)

    def constant(self, array: np.ndarray | ir.TensorProtocol, name: str | None = None) -> ir.Value:
        """An initializer made from `array`. A second call with the same `name` returns the first one's value."""
        name = name or self._fresh("constant")
        if self._as_nodes:
            tensor = ir.tensor(array, name=name)
            return self.op("Constant", value=tensor, dtype=tensor.dtype, shape=tensor.shape)
        return constant(self._graph, array, name)

    def ints(self, values: Sequence[int]) -> ir.Value:
        """A one-dimensional int64 constant, shared by all calls with the same numbers."""
        array = np.asarray(values, np.int64)
        return self.constant(array, f"ints_{array.ndim}_" + "_".join(map(str, array.reshape(-1).tolist())))

    def _fresh(self, what: str) -> str:
        self._count += 1
        return f"{self._prefix}/{what}_{self._count}"


def constant(graph: ir.Graph, array: np.ndarray | ir.TensorProtocol, name: str) -> ir.Value:
    """The initializer `name` of `graph`, made from `array` unless it exists."""
    if name in graph.initializers:
        return graph.initializers[name]
    tensor = ir.tensor(array, name=name) if isinstance(array, np.ndarray) else array
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape), const_value=tensor)
    graph.register_initializer(value)
    return value


def replace(old: ir.Value, new: ir.Value) -> None:
    """Let all users of `old` use `new`. If `old` was an output of the graph, `new` is, under the same name."""
    if old.is_graph_output():
        old.name, new.name = f"{old.name}/replaced", old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def produced_by(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node that made `value`, if it is a standard operator `op_type`; else None."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type and node.domain == "" else None
