"""An artifact's graph, opened for surgery: read its tables, insert nodes, rewire, write a mutated copy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import external_data_helper, helper, numpy_helper

from rope_deploy.artifact import MODEL_NAME, load_manifest


class Graph:
    """The graph in `folder`, by names of values. Nodes may be added in any order; `write` sorts them."""

    def __init__(self, folder: Path):
        self.folder, self.manifest = Path(folder), load_manifest(folder)
        self._model = onnx.load(str(self.folder / MODEL_NAME), load_external_data=False)
        self._initializers = {tensor.name: tensor for tensor in self._model.graph.initializer}
        self._count, self._made = 0, {}

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        return list(self._model.graph.node)

    def producer(self, value: str) -> onnx.NodeProto | None:
        return next((node for node in self.nodes if value in node.output), None)

    def users(self, value: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if value in node.input]

    def array(self, name: str) -> np.ndarray:
        """The numbers of an initializer, wherever they are stored."""
        tensor = onnx.TensorProto()
        tensor.CopyFrom(self._initializers[name])
        if tensor.external_data:
            external_data_helper.load_external_data_for_tensor(tensor, str(self.folder))
        return numpy_helper.to_array(tensor)

    def constant(self, array: np.ndarray) -> str:
        """An initializer with these numbers, stored in the graph file itself; equal ones are stored once."""
        array = np.ascontiguousarray(array)
        return self.once((array.tobytes(), array.shape, array.dtype), lambda: self._new_constant(array))

    def once(self, key: Hashable, make: Callable[[], str]) -> str:
        """The value made for `key`, by `make` if it is the first time."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def overwrite(self, name: str, array: np.ndarray) -> None:
        """Other numbers for an initializer: everyone who reads it sees them."""
        self._model.graph.initializer.remove(self._initializers[name])
        self._add(numpy_helper.from_array(np.ascontiguousarray(array), name))

    def op(self, op_type: str, *inputs: str, **attributes) -> str:
        """A standard node with one output; returns that value's name."""
        output = self._fresh(op_type)
        self._model.graph.node.append(helper.make_node(op_type, list(inputs), [output], name=output, **attributes))
        return output

    def supplant(self, value: str, by: str) -> None:
        """Whoever read `value` reads `by` under the old name. `by` may be made from what `displaced` returned."""
        self._model.graph.node.append(helper.make_node("Identity", [by], [value], name=self._fresh("Identity")))

    def displaced(self, value: str) -> str:
        """Free the name `value`: its producer writes to the name returned instead."""
        node, moved = self.producer(value), self._fresh("sound")
        assert node is not None, value
        node.output[list(node.output).index(value)] = moved
        return moved

    def write(self, folder: Path) -> Path:
        """A copy of the artifact with this graph in `folder`; all other files are hard links."""
        shutil.copytree(self.folder, folder, copy_function=os.link)
        (folder / MODEL_NAME).unlink()
        nodes = _sorted(self.nodes, {value.name for value in self._model.graph.input} | {*self._initializers, ""})
        del self._model.graph.node[:]
        self._model.graph.node.extend(nodes)
        (folder / MODEL_NAME).write_bytes(self._model.SerializeToString())
        return folder

    def _new_constant(self, array: np.ndarray) -> str:
        tensor = numpy_helper.from_array(array, self._fresh("constant"))
        self._add(tensor)
        return tensor.name

    def _add(self, tensor: onnx.TensorProto) -> None:
        self._model.graph.initializer.append(tensor)
        self._initializers[tensor.name] = self._model.graph.initializer[-1]

    def _fresh(self, what: str) -> str:
        self._count += 1
        return f"mutation/{what}_{self._count}"


def set_attribute(node: onnx.NodeProto, name: str, value: int) -> None:
    for old in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(old)
    node.attribute.append(helper.make_attribute(name, value))


def _sorted(nodes: Iterable[onnx.NodeProto], known: set[str]) -> list[onnx.NodeProto]:
    """`nodes` in an order in which each finds its inputs made."""
    waiting, done = list(nodes), []
    while waiting:
        ready, later = [], []
        for node in waiting:
            if all(name in known for name in node.input):
                known.update(node.output)
                ready.append(node)
            else:
                later.append(node)
        assert ready, f"{later[0].name} waits for a value that nobody makes"
        done, waiting = done + ready, later
    return done
