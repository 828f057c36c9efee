"""RMS normalisation as models write it, x · (1 / sqrt(mean(x²) + ε)) · weight, as ONNX text."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

NORM = """
<ir_version: 11, opset_import: ["" : 23]>
g (float[a, 4] x) => (float[a, 4] y)
<float[4] weight = {1.0, 2.0, 3.0, 0.5}, float epsilon = {0.1}, int64[1] axes = {-1}, float two = {2.0}>
{ square = Pow(x, two)
  mean = ReduceMean(square, axes)
  shifted = Add(mean, epsilon)
  root = Sqrt(shifted)
  inverse = Reciprocal(root)
  normal = Mul(x, inverse)
  y = Mul(weight, normal) }"""
X = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]
