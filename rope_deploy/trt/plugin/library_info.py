"""Read the description inside a plugin library from the file: nothing is loaded, and TensorRT is not needed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from rope_deploy.errors import UsageError

MARK = b"rope_deploy plugin library\n"  # comes before the description, which ends with a zero byte
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Operator:
    """An operator of the plugin and its tensors. TensorRT finds it by its name, whatever the domain of the node."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Attribute:
    """A field of the plugin, an attribute of the node: `length` values of `type` between `lowest` and `highest`."""

    name: str
    type: str
    length: int
    default: float
    lowest: float
    highest: float
    meaning: str

    @property
    def required(self) -> bool:
        """Whether a node must state it: the default of such a field is out of range."""
        return not self.lowest <= self.default <= self.highest


@dataclass(frozen=True)
class PluginLibrary:
    """A compiled library. `architectures` are named as in CMake: "80-real" is machine code for 8.0, "120-virtual" PTX.

    `version` is rope-deploy's, `trtexec` a command that uses the library. `tensorrt_headers`, `cuda` and `compiler` are
    what it was compiled with; it serves TensorRT 10 and 11 whichever headers these were.
    """

    path: str
    bytes: int
    version: str
    operators: tuple[Operator, ...]
    operator_version: str
    operator_namespace: str
    attributes: tuple[Attribute, ...]
    architectures: tuple[str, ...]
    tensorrt_headers: str
    cuda: str
    compiler: str
    trtexec: str


def read_library(path: Path) -> PluginLibrary:
    """Read the description that is compiled into the library at `path`.

    Raises UsageError if there is no such file, or it is no plugin library of rope-deploy.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}.",
            todo="Build a library with `rope-deploy plugin build`.",
        ) from None
    start = content.find(MARK)
    if not content.startswith(b"\x7fELF") or start < 0:
        raise UsageError(
            f"{path} is not a plugin library of rope-deploy.", todo="Build one with `rope-deploy plugin build`."
        )
    try:
        text = content[start + len(MARK) : content.index(b"\0", start)].decode()
        head, *attributes = (json.loads(line) for line in text.splitlines())
        if head.pop("schema_version") != SCHEMA_VERSION:
            raise ValueError
        head["operators"] = tuple(
            Operator(entry["name"], tuple(entry["inputs"]), tuple(entry["outputs"])) for entry in head["operators"]
        )
        head["architectures"] = tuple(head["architectures"].split())
        return PluginLibrary(
            path=str(path),
            bytes=len(content),
            attributes=tuple(Attribute(**entry) for entry in attributes),
            trtexec=trtexec_line(path),
            **head,
        )
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"{path} was built by another version of rope-deploy, or is damaged.",
            todo="Build it again with `rope-deploy plugin build`.",
        ) from None


def trtexec_line(path: Path) -> str:
    """A command that builds an engine with the library. Without its last option an operator's body wins over it."""
    return f"trtexec --onnx=model.onnx --saveEngine=model.engine --dynamicPlugins={path} --enablePluginOverride"
