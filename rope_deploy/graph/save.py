"""Write a graph and its weights: one small file that can be read at a glance, one large file with everything else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

# Smaller tensors (shapes, scalars) stay in the graph file, where tools can fold them without reading the weights.
EXTERNAL_FROM_BYTES = 1024


@dataclass(frozen=True)
class Summary:
    """What a reader wants to know of a written graph. Axes are numbers or names, dtypes in numpy's words."""

    nodes: int
    runtime_cos_sin: int
    inputs: tuple[tuple[str, str, tuple[int | str, ...]], ...]
    outputs: tuple[tuple[str, str, tuple[int | str, ...]], ...]


def save(model: ir.Model, path: Path, data_name: str) -> Summary:
    """Write `model` to `path` and its weights, each once, to `data_name` beside it."""
    ir.save(model, path, external_data=data_name, size_threshold_bytes=EXTERNAL_FROM_BYTES)
    return summarise(model)


def summarise(model: ir.Model) -> Summary:
    graph = model.graph
    return Summary(
        nodes=graph.num_nodes(),
        runtime_cos_sin=sum(node.op_type in ("Cos", "Sin") and node.domain == "" for node in model.graph.all_nodes()),
        inputs=tuple(_described(value) for value in graph.inputs),
        outputs=tuple(_described(value) for value in graph.outputs),
    )


def _described(value: ir.Value) -> tuple[str, str, tuple[int | str, ...]]:
    shape = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape)
    dtype = "bfloat16" if value.dtype == ir.DataType.BFLOAT16 else str(value.dtype.numpy())
    return value.name, dtype, shape
