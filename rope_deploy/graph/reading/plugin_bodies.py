"""Check that the attributes of our custom operators state what their bodies compute.

ONNX Runtime runs the body, TensorRT's plugin goes by the attributes: a graph in which they differ passes every check in
the one and rotates differently in the other. So each body is computed on small random tensors, and compared with the
rotation that the attributes name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.serde import deserialize_function

from rope_deploy.graph.analysis.evaluate import evaluate
from rope_deploy.graph.rotating_operators import DOMAIN, PLUGIN_ATTRIBUTES, PLUGIN_UNUSED, ROTATE, ROTATE_QK
from rope_deploy.rope.rotate import rotate
from rope_deploy.rope.spec import LARGEST_HEAD

_SIZES = {"batch": 2, "heads": 2, "tokens": 3, "rows": 5}
_NEAR = {np.dtype(np.float32): 1e-5, np.dtype(np.float16): 1e-2}  # a few roundings of numbers near 1
_HALF = 4e-2  # bfloat16's


def contradictions(model: onnx.ModelProto) -> Iterator[str]:
    """Custom operators whose attributes and bodies differ, one sentence each; one of several that are alike."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    found: dict[tuple, str] = {}
    for node in model.graph.node:
        if node.domain != DOMAIN or node.op_type not in (ROTATE, ROTATE_QK):
            continue
        stated = {a.name: _value(a) for a in node.attribute}
        key = (node.op_type, node.overload, tuple(sorted((name, str(value)) for name, value in stated.items())))
        if key not in found:
            found[key] = _contradiction(node, stated, functions.get((node.domain, node.op_type, node.overload)))
            if found[key]:
                yield f"{node.op_type} ({node.name or node.output[0]}): {found[key]}"


def _contradiction(node: onnx.NodeProto, stated: Mapping[str, Any], function: onnx.FunctionProto | None) -> str:
    if function is None:
        return "it has no body."
    for name, usual in PLUGIN_UNUSED.items():
        if name in stated and stated[name] != usual:
            return f"its attribute {name} is {stated[name]}, and its body does nothing of that."
    values = [stated.get(name) for name in PLUGIN_ATTRIBUTES]
    if any(not isinstance(value, int) for value in values):
        return f"its attributes {', '.join(PLUGIN_ATTRIBUTES)} are not all there."
    axis, head, rotary, interleaved = values
    if axis not in (1, 2) or interleaved not in (0, 1) or not 0 < rotary <= head <= LARGEST_HEAD or rotary % 2:
        return f"its attributes {dict(zip(PLUGIN_ATTRIBUTES, values, strict=True))} name no rotation."
    count = 2 if node.op_type == ROTATE_QK else 1
    try:
        got, expected, near = _computed_and_expected(
            deserialize_function(function), count, axis, head, rotary, bool(interleaved)
        )
    except Exception as error:  # onnx_ir and numpy raise many kinds for such a body; it is reported
        return f"its body does not take what its attributes name ({' '.join(str(error).split())[:120]})."
    if any(
        one.shape != other.shape or not np.allclose(one, other, rtol=0, atol=near) for one, other in zip(got, expected)
    ):
        return f"its body does not rotate as its attributes say ({dict(zip(PLUGIN_ATTRIBUTES, values, strict=True))})."
    return ""


def _value(attribute: onnx.AttributeProto) -> Any:
    try:
        return onnx.helper.get_attribute_value(attribute)
    except ValueError:  # of no type, or a reference; the caller reports it as missing
        return None


def _computed_and_expected(function: ir.Function, count: int, axis: int, head: int, rotary: int, interleaved: bool):
    """What the body computes of random tensors, what its attributes ask for, and how far they may be apart."""
    draw, sizes = np.random.default_rng(0), _SIZES
    shape = [sizes["batch"], sizes["tokens"], sizes["tokens"], head]
    shape[axis] = sizes["heads"]
    inputs = list(function.inputs)
    if len(inputs) != count + 3:
        raise ValueError(f"it has {len(inputs)} inputs, not {count + 3}")
    kind = inputs[0].dtype.numpy() if inputs[0].dtype is not None else np.dtype(np.float32)
    tensors = [draw.uniform(-1, 1, shape).astype(kind) for _ in range(count)]
    caches = [draw.uniform(-1, 1, (sizes["rows"], rotary // 2)).astype(kind) for _ in range(2)]
    rows = draw.integers(0, sizes["rows"], (sizes["batch"], sizes["tokens"]))
    got = evaluate(list(function.outputs), dict(zip(inputs, [*tensors, *caches, rows], strict=True)))
    cos, sin = (np.expand_dims(cache.astype(np.float64)[rows], axis) for cache in caches)
    expected = [rotate(one.astype(np.float64), cos, sin, interleaved=interleaved) for one in tensors]
    return [one.astype(np.float64) for one in got], expected, _NEAR.get(np.dtype(kind), _HALF)
