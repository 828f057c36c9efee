"""A graph that ends the process of ONNX Runtime, by a length of its prompt: for tests that a command lives on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rope_deploy.artifact import MODEL_NAME

LEAST = np.iinfo(np.int64).min


def crash_at(folder: Path, length: int) -> None:
    """Let the graph in `folder` divide the least int64 by length - tokens - 1: by -1 at `length` tokens, SIGFPE."""
    model = onnx.load(folder / MODEL_NAME, load_external_data=False)
    numbers = {"least": LEAST, "below": length + 1, "axis": 1, "zero": 0}
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["crash.shape"]),
        helper.make_node("Gather", ["crash.shape", "crash.axis"], ["crash.tokens"]),
        helper.make_node("Sub", ["crash.tokens", "crash.below"], ["crash.divisor"]),
        helper.make_node("Div", ["crash.least", "crash.divisor"], ["crash.quotient"]),
        helper.make_node("Min", ["crash.quotient", "crash.zero"], ["crash.negative"]),
        helper.make_node("Mul", ["crash.negative", "crash.zero"], ["crash.nothing"]),
        helper.make_node("Add", ["input_ids", "crash.nothing"], ["crash.ids"]),
    ]
    for node in model.graph.node:
        node.input[:] = ["crash.ids" if name == "input_ids" else name for name in node.input]
    others = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *others])
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), f"crash.{name}") for name, value in numbers.items()
    )
    (folder / MODEL_NAME).write_bytes(model.SerializeToString())
