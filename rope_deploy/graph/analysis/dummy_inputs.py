"""Inputs of a small call: zeros of the right shapes, for evaluations that read shapes and no values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

# Sizes used for the axes when a fragment is evaluated; none may equal another, or 1.
SIZES = {"batch": 2, "sequence": 3, "past": 5, "total": 8}


def dummy_inputs(graph: ir.Graph, sizes: Mapping[str, int] = SIZES) -> dict[ir.Value, np.ndarray]:
    """Zeros for every graph input whose axes are known."""
    shaped = ((v, [size_of(dim, sizes) for dim in v.shape]) for v in graph.inputs if v.shape is not None)
    return {v: np.zeros(dims, v.dtype.numpy()) for v, dims in shaped if None not in dims}


def size_of(dim: int | ir.SymbolicDim, sizes: Mapping[str, int]) -> int | None:
    """The size of an axis, a number or one of the names in `sizes`; None if it is neither."""
    return dim if isinstance(dim, int) else sizes.get(str(dim.value))
