"""Mistakes that are put into a sound artifact: whatever its manifest then says, no check may pass it.

Each takes the folder of an artifact of the seed's tiny model and changes its graph or its weights in place.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

HEAD_DIM = 16  # of the seed's model
BASE = 10_000.0  # of plain RoPE; the seed's model has another base and a rule


def make_wrong(folder: Path, kind: str) -> None:
    WRONG[kind](folder)


class _Weights:
    """A graph and its tensors, which lie in the file beside it or in the graph."""

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / "model.onnx"
        self.model = onnx.load(self.path, load_external_data=False)
        self._named = {tensor.name: tensor for tensor in self.model.graph.initializer}

    def of_products(self) -> list[str]:
        """The weights of MatMul and Gemm, in the order of the nodes."""
        nodes = [node for node in self.model.graph.node if node.op_type in ("MatMul", "Gemm")]
        return [name for node in nodes for name in node.input if name in self._named]

    def tables(self) -> tuple[str, str]:
        cos, sin = (next(name for name in self._named if name.endswith(f"{which}_cache")) for which in ("cos", "sin"))
        return cos, sin

    def change(self, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        tensor = self._named[name]
        where = {entry.key: entry.value for entry in tensor.external_data}
        if not where:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))
            return self.save()
        file, offset = self.folder / where["location"], int(where.get("offset", 0))
        values = np.memmap(file, np.float32, "r+", offset, tuple(tensor.dims))
        values[...] = change(np.array(values))
        values.flush()

    def save(self) -> None:
        self.path.write_bytes(self.model.SerializeToString())


def _head(folder: Path) -> None:
    """Two halves of the logits are exchanged; every rotation is right."""
    weights = _Weights(folder)
    weights.change(weights.of_products()[-1], lambda w: np.roll(w, w.shape[-1] // 2, axis=-1))


def _theta(folder: Path) -> None:
    """Tables of plain RoPE: the base and the rule of the model are forgotten."""
    weights = _Weights(folder)
    for name, function in zip(weights.tables(), (np.cos, np.sin), strict=True):

        def other(table: np.ndarray, function: Callable = function) -> np.ndarray:
            pairs = table.shape[1]
            angles = np.arange(table.shape[0])[:, None] * BASE ** (-np.arange(pairs) / pairs)
            return np.where(np.isnan(table), table, function(angles)).astype(np.float32)

        weights.change(name, other)


def _backwards(folder: Path) -> None:
    weights = _Weights(folder)
    weights.change(weights.tables()[1], np.negative)


def _row(folder: Path) -> None:
    """Position 5 is rotated as position 6 is."""
    _exchanged(folder, 5, 6)


def _last_row(folder: Path) -> None:
    """Only the last position is wrong; behind it lies the row of no numbers."""
    _exchanged(folder, -2, -3)


def _exchanged(folder: Path, row: int, by: int) -> None:
    weights = _Weights(folder)
    for name in weights.tables():

        def exchanged(table: np.ndarray) -> np.ndarray:
            table[row] = table[by]
            return table

        weights.change(name, exchanged)


def _layout(folder: Path) -> None:
    """q and k come out of their projections as pairs of neighbours, and are rotated as halves."""
    weights = _Weights(folder)
    order = np.arange(HEAD_DIM).reshape(2, -1).T.ravel()
    for name in weights.of_products()[:2]:
        weights.change(name, lambda w: w.reshape(w.shape[0], -1, HEAD_DIM)[:, :, order].reshape(w.shape))


def _offset(folder: Path) -> None:
    """Every position is one too high."""
    weights = _Weights(folder)
    graph = weights.model.graph
    for node in graph.node:
        node.input[:] = ["later_ids" if name == "position_ids" else name for name in node.input]
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.int64), "one_later"))
    graph.node.insert(0, helper.make_node("Add", ["position_ids", "one_later"], ["later_ids"]))
    weights.save()


WRONG: dict[str, Callable[[Path], None]] = {
    "head": _head,
    "theta": _theta,
    "backwards": _backwards,
    "row": _row,
    "last row": _last_row,
    "layout": _layout,
    "offset": _offset,
}
OF_TABLES = ("theta", "backwards", "row", "last row")
