"""What no site of the manifest does: a layer without rotation rotates (RD110), the error is of another kind (RD901)."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper

from faults.artifact_graph import Graph
from faults.mistakes.fault import Fault
from faults.plant_rotation import Sound, rotated, sites_of


def still_layers_rotate(graph: Graph, layers: Collection[int] | None, natural: bool) -> tuple[int, ...]:
    """q and k of layers without a rotation are rotated as the others' are, where they enter the attention."""
    rotating = {site.layer for site in graph.manifest.sites}
    still = [n for n in range(graph.manifest.layers) if n not in rotating and (layers is None or n in layers)]
    if natural or not still or not graph.manifest.cache:
        return ()
    model = sites_of(graph)[0]
    for layer in still:
        cached = graph.producer(f"present.{layer}.key")
        assert cached is not None and cached.op_type == "Concat", layer
        for node, slot in ((cached, 1), _query(graph, f"present.{layer}.key")):
            node.input[slot] = _rotated_like(graph, node.input[slot], model)
    return tuple(still)


def _rotated_like(graph: Graph, x: str, model: Sound) -> str:
    """Rotated as `model` is, in the type that its tables have."""
    table, own = (helper.np_dtype_to_tensor_dtype(np.dtype(d)) for d in (model.applied.cos.dtype, graph.manifest.dtype))
    return graph.op("Cast", rotated(graph, graph.op("Cast", x, to=table), model, model.applied), to=own)


def _query(graph: Graph, keys: str) -> tuple[onnx.NodeProto, int]:
    """The node and input where q [B, N, S, H] meets these keys."""
    for user in graph.users(keys):
        if user.op_type == "Attention":
            return user, 0
        if user.op_type == "Transpose":
            (product,) = graph.users(user.output[0])
            scaled = graph.producer(product.input[0])
            while scaled is not None and scaled.op_type == "Reshape":
                scaled = graph.producer(scaled.input[0])
            assert scaled is not None and scaled.op_type == "Mul"
            return scaled, 0
    raise AssertionError(keys)


def larger_result(graph: Graph, layers: Collection[int] | None, natural: bool) -> tuple[int, ...]:
    """Nothing about the rotation: the result is doubled. Reported without a layer, hence the ‑1."""
    if natural or layers is not None:
        return ()
    name = graph.manifest.result_name
    dtype = next(info.dtype for info in graph.manifest.outputs if info.name == name)
    graph.supplant(name, graph.op("Mul", graph.displaced(name), graph.constant(np.array(2, dtype))))
    return NO_LAYER


NO_LAYER = (-1,)

OUTSIDE = (
    Fault("still-layer-turns", "RD110", still_layers_rotate),
    Fault("result-doubled", "RD901", larger_result, per_layer=False),
)
