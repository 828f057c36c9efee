"""Read ONNX files: the one module that opens them, and that decides whether a file is whole.

Every model that it returns is sound by itself: names resolve and nodes are in order, operators have the inputs and
attributes of their schemas, types and shapes fit, every tensor has its data, files of weights lie beside the graph and
are long enough. No weight is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError

from rope_deploy.errors import UsageError
from rope_deploy.graph.validation import ExternalFiles, Unsound, check_model, check_shapes
from rope_deploy.graph.validation.graphs import all_nodes, subgraphs
from rope_deploy.graph.validation.tensors import check_tensor

if TYPE_CHECKING:
    import onnx_ir as ir

LARGEST_FILE = 2**31 - 1  # of protobuf
AGAIN = "Export or download it again."


def read_proto(path: Path, *, weights: bool = True) -> tuple[onnx.ModelProto, ExternalFiles]:
    """The sound model in `path`, and the files that hold its weights.

    With `weights` these must be there; without, they may be missing, but never be too short.

    Raises UsageError, saying what is wrong with the file.
    """
    path = Path(path)
    content = _content(path)
    files, model = ExternalFiles(path), onnx.ModelProto()
    try:
        model.ParseFromString(content)
        del content
        check_model(model, files)
        check_shapes(model, files)
    except DecodeError:
        raise UsageError(
            f"{path} is not an ONNX file, or it is truncated: protobuf cannot read it.",
            exists=f"It has {path.stat().st_size} bytes.",
            todo=AGAIN,
        ) from None
    except Unsound as reason:
        raise UsageError(f"{path} is not a sound ONNX file: {reason}.", todo=AGAIN) from None
    if weights and files.missing:
        raise UsageError(f"{path} has its weights in {', '.join(files.missing)}, which is not beside it.", todo=AGAIN)
    return model, files


def read_model(path: Path, *, weights: bool = True) -> ir.Model:
    """The same for onnx-ir, weights in other files mapped into memory when they are asked for.

    Raises UsageError, and FileNotFoundError when a tensor is asked for whose file is missing.
    """
    import onnx_ir as ir  # here and not above: most of a second, for processes that only run a graph

    proto, files = read_proto(path, weights=weights)
    for tensor in _tensors_of(proto):
        if (data := check_tensor(tensor, "a tensor", files)) is not None:
            # In full, links followed: onnx-ir itself follows no link out of the folder, and takes no hard link.
            del tensor.external_data[:]
            for key, value in (("location", data.path), ("offset", data.offset), ("length", data.bytes)):
                tensor.external_data.add(key=key, value=str(value))
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # SerdeError, and what onnx-ir lets through
        raise UsageError(f"{path} is not a sound ONNX file: onnx-ir cannot take it apart.", todo=AGAIN) from error
    return model


def read_for_memory(path: Path) -> tuple[onnx.ModelProto, str]:
    """The sound model in `path` as ONNX Runtime takes one from memory: without its weights, and the folder of these.

    Weights are named by the file that a link leads to, since ONNX Runtime follows no link for a graph in memory. Raises
    UsageError, also for weights that are missing, or that lie in several folders.
    """
    path = Path(path)
    proto, files = read_proto(path)
    folders = {Path(files.find(name)[0]).parent for name in files.names} or {path.parent.resolve()}
    if len(folders) > 1:
        raise UsageError(f"{path.parent} has weights in several folders, links followed.", todo="Copy the files first.")
    for tensor in _tensors_of(proto):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = Path(files.find(entry.value)[0]).name
    return proto, str(folders.pop())


def _tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of the graph, of the graphs inside it, of functions, and of attributes."""
    yield from model.graph.initializer
    for node in all_nodes(node for owner in (model.graph, *model.functions) for node in owner.node):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for graph in subgraphs(node):
            yield from graph.initializer


def _content(path: Path) -> bytes:
    """The bytes of a regular file. Raises UsageError for anything else; a pipe or a device is never opened."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.", todo="Give the path of an existing .onnx file.") from None
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be opened: {error}.") from None
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path} is a folder.", todo="Give the .onnx file in it.")
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{path} is no regular file.", todo="Give the path of an .onnx file.")
    if found.st_size > LARGEST_FILE:
        raise UsageError(
            f"{path} has {found.st_size} bytes; an ONNX file has {LARGEST_FILE} at most.",
            todo="Keep its weights in a file of their own: onnx.save(..., save_as_external_data=True).",
        )
    return path.read_bytes()
