"""Wrong graphs under manifests that try to talk a check out of its verdict; hashes are those of the files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model

from rope_deploy.artifact import MANIFEST_NAME, MODEL_NAME, hash_file

Document = dict[str, Any]
Edit = Callable[[Document], None]
Graph = Callable[[onnx.ModelProto], None]


def tampered(artifact: Path, target: Path, edit: Edit, *graphs: Graph) -> Path:
    """A copy of `artifact` with the changes to its graph, then to its manifest, and hashes to match."""
    shutil.copytree(artifact, target)
    (weights,) = target.glob(f"{MODEL_NAME}.*.data")
    if graphs:
        model = onnx.load(target / MODEL_NAME, load_external_data=False)
        load_external_data_for_model(model, str(target))
        for change in graphs:
            change(model)
        weights.unlink()
        onnx.save(model, target / MODEL_NAME, save_as_external_data=True, location=weights.name, size_threshold=1024)
    path = target / MANIFEST_NAME
    document = json.loads(path.read_text())
    for name in (MODEL_NAME, weights.name):
        info = hash_file(target / name)
        document["files"][name] = {"bytes": info.bytes, "sha256": info.sha256}
    edit(document)
    path.write_text(json.dumps(document))
    return target


def _stored(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    array = np.ascontiguousarray(change(numpy_helper.to_array(tensor).copy()))
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def lm_head(model: onnx.ModelProto) -> None:
    """Two tokens of the output are exchanged."""
    (last,) = [node for node in model.graph.node if "logits" in node.output]
    words = model.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    last.output[0] = "right"
    also("exchanged", np.array([1, 0, *range(2, words)]))(model)
    model.graph.node.append(helper.make_node("Gather", ["right", "exchanged"], ["logits"], axis=2))


def theta(model: onnx.ModelProto, base: float = 5e5) -> None:
    """The tables are those of another base."""

    def other(table: np.ndarray, function) -> np.ndarray:
        rows, pairs = table.shape
        angles = np.arange(rows - 1)[:, None] * base ** (-np.arange(pairs) / pairs)
        table[:-1] = function(angles)
        return table

    _stored(model, "rope_0.cos_cache", lambda table: other(table, np.cos))
    _stored(model, "rope_0.sin_cache", lambda table: other(table, np.sin))


def late(model: onnx.ModelProto) -> None:
    """From position 21 on the table stands still."""

    def still(table: np.ndarray) -> np.ndarray:
        table[21:-1] = table[20]
        return table

    _stored(model, "rope_0.cos_cache", still)
    _stored(model, "rope_0.sin_cache", still)


def k_unrotated(model: onnx.ModelProto) -> None:
    """The keys of layer 0 go on as they came."""
    for node in model.graph.node:
        if "rope.0.k.out" in node.output:
            kept = list(node.input[:1]), list(node.output)
            node.CopyFrom(helper.make_node("Identity", *kept, name=node.name))


def unguarded(model: onnx.ModelProto) -> None:
    """Positions reach the table as they were fed, also those that have no row in it."""
    (guard,) = [node for node in model.graph.node if node.op_type == "Where" and node.output[0].startswith("rope/rows")]
    guard.CopyFrom(helper.make_node("Identity", ["position_ids"], list(guard.output), name=guard.name))


def switched(by: str) -> Graph:
    """Positions are a third of what they are in calls of 11 rows, of 61 tokens, or whose mask or positions sum to 997.

    No case is such a call, whichever cases there are.
    """
    sizes = {"batch": ("position_ids", 0, 11), "tokens": ("position_ids", 1, 61)}
    sums = {"mask": ("attention_mask", 997), "others": ("position_ids", 997)}

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        for node in graph.node:
            node.input[:] = ["switched" if name == "position_ids" else name for name in node.input]
        if by in sizes:
            source, axis, size = sizes[by]
            nodes = [helper.make_node("Shape", [source], ["found"], start=axis, end=axis + 1)]
        else:
            source, size = sums[by]
            nodes = [helper.make_node("ReduceSum", [source], ["found"], keepdims=0)]
        for name, value in (("when", size), ("third", 3)):
            graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
        nodes += [
            helper.make_node("Equal", ["found", "when"], ["now"]),
            helper.make_node("Div", ["position_ids", "third"], ["fewer"]),
            helper.make_node("Where", ["now", "fewer", "position_ids"], ["switched"]),
        ]
        for number, node in enumerate(nodes):
            graph.node.insert(number, node)

    return change


def says_interleaved(model: onnx.ModelProto) -> None:
    """The custom operators say another layout than their bodies have: a runtime that goes by the body is none the
    wiser."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.domain == "rope_deploy" and attribute.name == "interleaved":
                attribute.i = 1 - attribute.i


def also(name: str, value: np.ndarray) -> Graph:
    """One more constant, which nothing uses."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(value, name))

    return change


def stating(key: str, value: str) -> Graph:
    """An entry in the graph's own metadata."""

    def change(model: onnx.ModelProto) -> None:
        model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=value))

    return change


def at(*path: str | int, value: Any) -> Edit:
    """The manifest with another value at a path such as ("limits", "tokens")."""

    def edit(document: Document) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value(document[path[-1]]) if callable(value) else value

    return edit


def all_sites(name: str, value: Any) -> Edit:
    def edit(document: Document) -> None:
        for site in document["sites"]:
            site[name] = value(site) if callable(value) else value

    return edit


def both(*edits: Edit) -> Edit:
    def edit(document: Document) -> None:
        for one in edits:
            one(document)

    return edit
