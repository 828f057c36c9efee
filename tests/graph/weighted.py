"""A small graph with a large weight, to save as it is or with the weight transposed."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

SIZE = 40  # a 40 × 40 fp32 weight is above the size that stays in the graph file


def model(*, tied: bool) -> ir.Model:
    values = ", ".join(f"{i / SIZE**2}" for i in range(SIZE**2))
    table = "Gather <axis = 0> (weight, ids)" if tied else "Gather <axis = 0> (other, ids)"
    return ir.from_onnx_text(f"""
<ir_version: 10, opset_import: ["" : 18]>
g (int64[n] ids) => (float[n, {SIZE}] y)
<float[{SIZE}, {SIZE}] weight = {{{values}}}, float[{SIZE}, {SIZE}] other = {{{values}}}>
{{ hidden = {table}
   transposed = Transpose <perm = [1, 0]> (weight)
   y = MatMul(hidden, transposed) }}""")


IDS = {"ids": np.array([3, 0, 39])}
