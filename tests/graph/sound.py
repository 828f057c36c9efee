"""A small sound ONNX file with its table beside it, to read as it is or to damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

TEXT = """
<ir_version: 10, opset_import: ["" : 18, "ours" : 1]>
g (float[B, S, 4] x, int64[B, S] position_ids) => (float[B, S, 4] y)
<float[4] scale = {1.0, 2.0, 3.0, 4.0}, int64[1] last = {-1}, float[8, 4] table> {
  [take] rows = Gather <axis = 0> (table, position_ids)
  [times] product = Mul(x, rows)
  [call] doubled = ours.Twice(product)
  [join] both = Concat <axis = 2> (doubled, x)
  [cut] first, second = Split <axis = 2, num_outputs = 2> (both)
  [up] high = Unsqueeze(first, last)
  [down] low = Squeeze(high, last)
  [end] y = Mul(low, scale)
}
<domain: "ours", opset_import: ["" : 18]>
Twice (a) => (b) { b = Add(a, a) }
"""


def whole(path: Path) -> onnx.ModelProto:
    """The sound file: its table lies in `data` beside it."""
    model = onnx.parser.parse_model(TEXT)
    table = numpy_helper.from_array(np.arange(32, dtype=np.float32).reshape(8, 4), "table")
    (path.parent / "data").write_bytes(b"\0" * 64 + table.raw_data)
    onnx.external_data_helper.set_external_data(table, "data", 64, 128)
    table.ClearField("raw_data")
    kept = [tensor for tensor in model.graph.initializer if tensor.name != "table"]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, table])
    return model


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def tensor(model: onnx.ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def entry(model: onnx.ModelProto, key: str) -> onnx.StringStringEntryProto:
    return next(one for one in tensor(model, "table").external_data if one.key == key)
