"""Read what an ONNX file itself states: its interface, its types, its tables. A manifest is compared with this.

No weight is read.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from rope_deploy.graph.io import read_proto
from rope_deploy.graph.markers import CACHES
from rope_deploy.graph.operator_limits import limited_values, rotated_values
from rope_deploy.graph.reading.plugin_bodies import contradictions
from rope_deploy.graph.rotating_operators import operator_of, rotates
from rope_deploy.graph.validation.graphs import all_nodes

Interface = tuple[str, str, tuple[int | str, ...]]  # name, numpy's name of the type, numbers and names of axes
FLOATS = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}


@dataclass(frozen=True)
class Facts:
    """`dtype`: the type of most floating weights, `tables` apart, "" without any. `shapes` of the initializers.
    `styles`: whose rotary operators the graph has. `fused`: caches that GroupQueryAttention writes while it rotates.
    `limited`: the limits of its operators by name, each with the rotated values that these operators give. `values`:
    names of inputs and of what nodes make. `files` hold the weights. `metadata` is the file's own. `contradictions`:
    custom operators whose attributes and bodies differ.
    """

    opset: int
    inputs: tuple[Interface, ...]
    outputs: tuple[Interface, ...]
    dtype: str
    shapes: dict[str, tuple[int, ...]]
    styles: frozenset[str]
    fused: frozenset[str]
    limited: dict[str, frozenset[str]]
    contradictions: tuple[str, ...]
    trigonometric: int
    values: frozenset[str]
    files: frozenset[str]
    metadata: dict[str, str]


def read_facts(path: Path) -> Facts:
    """The facts of the file at `path`. Raises UsageError if it is no sound ONNX file."""
    model, weights = read_proto(path, weights=False)
    graph = model.graph
    rotating = [(node, operator) for node in graph.node if (operator := rotates(node)) is not None]
    fused = [one for one in rotating if one[1].fused and not one[1].opaque]
    given = {tensor.name for tensor in graph.initializer}
    return Facts(
        opset=next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0),
        inputs=tuple(_described(value) for value in graph.input if value.name not in given),
        outputs=tuple(map(_described, graph.output)),
        dtype=_dtype(graph),
        shapes={tensor.name: tuple(tensor.dims) for tensor in graph.initializer},
        styles=frozenset(one.style for node in graph.node if (one := operator_of(node)) is not None and one.style),
        fused=frozenset(name for one in fused for name in rotated_values(*one)),
        limited=limited_values(graph.node),
        contradictions=tuple(contradictions(model)),
        trigonometric=sum(node.op_type in ("Cos", "Sin") for node in all_nodes(graph.node)),
        values=frozenset([*(v.name for v in graph.input), *(name for node in graph.node for name in node.output)]),
        files=frozenset(weights.names),
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


def _described(value: onnx.ValueInfoProto) -> Interface:
    tensor = value.type.tensor_type
    try:
        dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, ValueError):  # of a sequence or an optional, which equals no dtype of a manifest
        dtype = "?"
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "None" for dim in tensor.shape.dim)
    return value.name, dtype, shape


def _dtype(graph: onnx.GraphProto) -> str:
    """By elements: a float32 table beside the weights of a half-precision model does not outweigh them."""
    elements: Counter[str] = Counter()
    for tensor in graph.initializer:
        if tensor.data_type in FLOATS and len(tensor.dims) >= 2 and not tensor.name.endswith(CACHES):
            elements[FLOATS[tensor.data_type]] += prod(tensor.dims)
    return max(elements, key=elements.__getitem__, default="")
