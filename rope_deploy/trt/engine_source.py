"""What an engine is built from: an artifact folder with its manifest, or a bare ONNX file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rope_deploy.artifact import (
    MODEL_NAME,
    FileInfo,
    Manifest,
    TensorInfo,
    changed_files,
    hash_file,
    load_manifest,
)
from rope_deploy.artifact.subject import FOLDERS, Kind, Subject, subject_of
from rope_deploy.errors import UsageError

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Source:
    """A graph to build from. `files`: the graph and its weights. Without a manifest it is a bare file.

    `dtypes`: the floating types in a bare file, and the one that an artifact's manifest states.
    """

    model: Path
    inputs: tuple[TensorInfo, ...]
    dtypes: tuple[str, ...]
    files: dict[str, FileInfo]
    manifest: Manifest | None = None

    @property
    def style(self) -> str:
        return self.manifest.style if self.manifest else ""


def open_source(path: Path) -> Source:
    """Read the graph's inputs and check that its files are whole. Weights are hashed, not loaded.

    Raises:
        UsageError: there is no such path, it is no sound ONNX file with its weights beside it, or it is not what its
            manifest describes.
        ConfigError: the manifest is invalid.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise UsageError(f"There is no {path}.", todo="Give an artifact folder or an .onnx file.")
    subject = subject_of(path)
    if subject.kind in FOLDERS or subject.artifact is not None:
        return _open_artifact(subject)
    return _open_file(path)


def _open_artifact(subject: Subject) -> Source:
    folder = subject.artifact or subject.path
    if subject.artifact is None and (subject.inside or subject.kind is Kind.MODEL_FOLDER):
        inside = ", ".join(artifact.name for artifact in subject.inside)
        raise UsageError(
            f"{folder} is no artifact.",
            exists=f"It holds some: {inside}." if inside else "It looks like a model.",
            todo="Give --style auto to build the style that suits the target, or the folder of one artifact.",
        )
    manifest = load_manifest(folder)
    files = {name: info for name, info in manifest.files.items() if name.startswith(MODEL_NAME)}
    changed = [name for name in changed_files(folder, manifest) if name in files]
    if MODEL_NAME not in files:
        changed.append(MODEL_NAME)
    if changed:
        raise UsageError(
            f"{folder} is not what its manifest describes: {', '.join(changed)} is missing, damaged or changed.",
            todo="Export the model again, or copy the artifact again.",
        )
    return Source(folder / MODEL_NAME, manifest.inputs, (manifest.dtype,), files, manifest)


def _open_file(path: Path) -> Source:
    from rope_deploy.graph.io import read_proto

    model, weights = read_proto(path)
    files = {name: hash_file(path.parent / name) for name in (path.name, *weights.names)}
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_tensor_info(value) for value in model.graph.input if value.name not in initialized)
    return Source(path, inputs, _float_types(model.graph), files)


def _tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    """An input's name, dtype and shape. An unnamed dynamic dimension is named "input[axis]", for --profile."""
    tensor = value.type.tensor_type
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}[{axis}]"
        for axis, dim in enumerate(tensor.shape.dim)
    )
    return TensorInfo(value.name, _type_name(tensor.elem_type), shape)


def _float_types(graph: onnx.GraphProto) -> tuple[str, ...]:
    """The floating types of the inputs, the initializers and the casts, without those inside subgraphs."""

    def types() -> Iterator[int]:
        yield from (value.type.tensor_type.elem_type for value in graph.input)
        yield from (tensor.data_type for tensor in graph.initializer)
        yield from (a.i for node in graph.node if node.op_type == "Cast" for a in node.attribute if a.name == "to")

    return tuple(sorted({name for name in map(_type_name, types()) if "float" in name}))


def _type_name(elem_type: int) -> str:
    import onnx

    name = onnx.TensorProto.DataType.Name(elem_type).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)
