"""Check that shapes and types fit, by onnx's own inference over the whole graph."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

import onnx
from onnx import TensorProto

from rope_deploy.childprocess import ChildFailed, run_in_fork
from rope_deploy.graph.validation.external_files import ExternalFiles
from rope_deploy.graph.validation.graphs import subgraphs
from rope_deploy.graph.validation.tensors import MOST_ELEMENTS, check_tensor
from rope_deploy.graph.validation.unsound_error import Unsound, node_label

# Larger tensors are not needed to find shapes.
LARGEST_COPIED = 1 << 16  # bytes
# What a graph computes from constants alone is computed whole when a runtime loads it.
MOST_CONSTANT_ELEMENTS = 2**28
READ_FOR_SHAPES = (TensorProto.INT64, TensorProto.INT32)
LONGEST_REASON = 240


def check_shapes(model: onnx.ModelProto, files: ExternalFiles) -> None:
    """Raise Unsound if operators get types or shapes that they do not take.

    Shapes stated of inner values are hints that some exporters get wrong: where they
    contradict what the operators make, they are dropped from `model`. No weight is read.
    """
    skeleton = _skeleton(model, files)
    try:
        found = run_in_fork(lambda: _inferred(skeleton))
    except ChildFailed as end:
        raise Unsound(f"onnx's shape inference {end}") from None
    if "reason" in found:
        raise Unsound(found["reason"])
    for drop in DROPS[: found["drops"]]:
        drop(model)
    _check_sizes(model, found["sizes"])


def _inferred(skeleton: onnx.ModelProto) -> dict[str, Any]:
    """How much of what is stated has to be dropped, and the sizes then found; or the reason why nothing helps."""
    reason = ""
    for drops in range(len(DROPS) + 1):
        if drops:
            DROPS[drops - 1](skeleton)
        try:
            inferred = onnx.shape_inference.infer_shapes(skeleton, check_type=True, strict_mode=True, data_prop=True)
        except MemoryError:  # std::bad_alloc
            return {"reason": "the values that its shapes follow from are too large for any sound graph"}
        except Exception as error:  # InferenceError, and what protobuf and pybind raise
            reason = _reason(error)
        else:
            return {"drops": drops, "sizes": dict(_sizes(inferred))}
    return {"reason": reason}


def _skeleton(model: onnx.ModelProto, files: ExternalFiles) -> onnx.ModelProto:
    """`model` without its weights: what is large or outside is an input of the same type and shape."""
    bare = onnx.ModelProto()
    bare.ir_version = max(model.ir_version, 4)  # from 4 on a tensor need not be an input as well
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    graph, whole = bare.graph, model.graph
    graph.name = whole.name or "graph"
    graph.node.extend(whole.node)
    graph.output.extend(whole.output)
    graph.value_info.extend(whole.value_info)
    tensors = {tensor.name for tensor in whole.initializer}
    graph.input.extend(value for value in whole.input if value.name not in tensors)
    for tensor in whole.initializer:
        if tensor.data_location != TensorProto.EXTERNAL and tensor.ByteSize() <= LARGEST_COPIED:
            graph.initializer.append(tensor)
        elif (copy := _read(tensor, files)) is not None:
            graph.initializer.append(copy)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return bare


def _read(tensor: TensorProto, files: ExternalFiles) -> TensorProto | None:
    """A small tensor of whole numbers from another file, which may be a shape; None for any other.

    A file that cannot be opened gives None too: the tensor stays an input, and shapes that follow from it stay unknown.
    Raises Unsound if the file ends before the tensor does.
    """
    if tensor.data_location != TensorProto.EXTERNAL or tensor.data_type not in READ_FOR_SHAPES:
        return None
    data = check_tensor(tensor, "a tensor", files)
    if data is None or data.bytes > LARGEST_COPIED:
        return None
    content = files.read(data.path, data.offset, data.bytes)
    if content is None:
        return None
    return TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=content)


def _of_standard_operators(model: onnx.ModelProto) -> None:
    """Drop what is stated of values whose shape follows from an operator that onnx knows."""
    made = {name for node in model.graph.node if node.domain == "" for name in node.output}
    _keep(model, lambda name: name not in made)


def _all(model: onnx.ModelProto) -> None:
    _keep(model, lambda name: False)


def _keep(model: onnx.ModelProto, wanted: Callable[[str], bool]) -> None:
    kept = [value for value in model.graph.value_info if wanted(value.name)]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


def _results(model: onnx.ModelProto) -> None:
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


# From what is likeliest to be wrong to what is least.
DROPS: tuple[Callable[[onnx.ModelProto], None], ...] = (_of_standard_operators, _all, _results)


def _check_sizes(model: onnx.ModelProto, sizes: Mapping[str, int]) -> None:
    """Raise Unsound for a value that is known to be larger than any memory."""
    constant = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        inside = any(True for _ in subgraphs(node))
        of_constants = not inside and all(name in constant for name in node.input if name)
        if of_constants:
            constant.update(node.output)
        most = MOST_CONSTANT_ELEMENTS if of_constants else MOST_ELEMENTS
        for name in node.output:
            if sizes.get(name, 0) > most:
                raise Unsound(f"{node_label(node)} makes {sizes[name]:.3g} elements")


def _sizes(model: onnx.ModelProto) -> Iterator[tuple[str, int]]:
    for value in (*model.graph.value_info, *model.graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            yield value.name, prod(dim.dim_value for dim in tensor.shape.dim)


def _reason(error: Exception) -> str:
    """onnx's own sentence on one line, without its prefixes."""
    text = " ".join(re.sub(r"\[(Shape|Type)InferenceError\]|Inference error\(s\):", "", str(error)).split())
    text = text or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]} …"
