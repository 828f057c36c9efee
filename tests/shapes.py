"""Whether the shapes that an ONNX file states of its inner tensors are those that they have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

SETTINGS = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def stated(path: Path) -> dict[str, list[int | str | None]]:
    """Every shape in the file by the name of its value, axes by number or name."""
    graph = onnx.load(path, load_external_data=False).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    return {
        value.name: [
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
            for dim in value.type.tensor_type.shape.dim
        ]
        for value in values
        if value.type.tensor_type.HasField("shape")
    }


def false_shapes(path: Path, feeds: Mapping[str, np.ndarray]) -> list[str]:
    """A sentence for every stated shape that a call with `feeds` shows to be untrue, names taken at their word."""
    model, shapes = onnx.load(path), stated(path)
    inner = [node_output for node in model.graph.node for node_output in node.output if node_output in shapes]
    known = {output.name for output in model.graph.output}
    del model.graph.value_info[:]  # what they say must not guide the run that judges them
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner if name not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.graph_optimization_level = 4, SETTINGS
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, dict(feeds)), strict=True)) | dict(feeds)
    sizes: dict[str, int] = {}
    wrong = []
    for name, shape in ((name, shape) for name, shape in shapes.items() if name in found):
        real = found[name].shape
        if len(real) != len(shape):
            wrong.append(f"{name} is stated as {shape} and is {list(real)}")
            continue
        for dim, size in zip(shape, real, strict=True):
            want = sizes.setdefault(dim, size) if isinstance(dim, str) else size if dim is None else dim
            if want != size:
                wrong.append(f"{name} is stated as {shape} and is {list(real)}")
    return wrong
