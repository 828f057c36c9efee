"""Save a graph and its weights: a small file with the graph and one large file with the weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir

from rope_deploy.artifact import FileInfo, hash_file, syncing, weights_name

# Smaller tensors (shapes, scalars) stay in the graph file, where tools can fold them without reading the weights.
EXTERNAL_FROM_BYTES = 1024
UNNAMED = "weights.unnamed"


@dataclass(frozen=True)
class Summary:
    """What manifests and records state of a saved graph. Inputs and outputs are (name, numpy dtype, axes).

    `weights` has the file beside it that holds its weights, by name; empty where no weight is large enough for one.
    """

    nodes: int
    runtime_cos_sin: int
    inputs: tuple[tuple[str, str, tuple[int | str, ...]], ...]
    outputs: tuple[tuple[str, str, tuple[int | str, ...]], ...]
    weights: dict[str, FileInfo] = field(default_factory=dict)


def save(model: ir.Model, path: Path) -> Summary:
    """Write `model` to `path`, and its weights, each once, beside it to a file whose name has the hash of its content.

    That name is known only once the weights are written, so the graph is written second. `model` keeps its weights.
    """
    values = [value for graph in model.graphs() for value in graph.initializers.values()]
    kept = [value.const_value for value in values]
    try:
        ir.external_data.unload_from_model(model, path.parent, UNNAMED, size_threshold_bytes=EXTERNAL_FROM_BYTES)
        weights = _named(path, values)
        ir.save(model, path)
    finally:
        for value, tensor in zip(values, kept, strict=True):
            value.const_value = tensor
    return replace(summarise(model), weights=weights)


def _named(path: Path, values: list[ir.Value]) -> dict[str, FileInfo]:
    """Rename the file of weights after its content, and make the tensors refer to it; returns it by name."""
    unnamed = path.with_name(UNNAMED)
    outside = [value for value in values if isinstance(value.const_value, ir.ExternalTensor)]
    if not outside:
        unnamed.unlink(missing_ok=True)
        return {}
    with syncing(unnamed):
        info = hash_file(unnamed)
    name = weights_name(path.name, info.sha256)
    unnamed.rename(path.with_name(name))
    for value in outside:
        tensor = value.const_value
        value.const_value = ir.ExternalTensor(
            location=name,
            offset=tensor.offset,
            length=tensor.length,
            dtype=tensor.dtype,
            shape=tensor.shape,
            name=tensor.name,
            base_dir=path.parent,
        )
    return {name: info}


def summarise(model: ir.Model) -> Summary:
    """The summary of `model`, without files."""
    graph = model.graph
    return Summary(
        nodes=graph.num_nodes(),
        runtime_cos_sin=sum(node.op_type in ("Cos", "Sin") and node.domain == "" for node in model.graph.all_nodes()),
        inputs=tuple(_described(value) for value in graph.inputs),
        outputs=tuple(_described(value) for value in graph.outputs),
    )


def _described(value: ir.Value) -> tuple[str, str, tuple[int | str, ...]]:
    shape = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape or ())
    dtype = "bfloat16" if value.dtype == ir.DataType.BFLOAT16 else str(value.dtype.numpy())
    return value.name, dtype, shape
