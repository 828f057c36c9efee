"""Read the settings and the tensor names of a GGUF file, every length checked against the size of the file.

The readers of gguf and of transformers trust the counts in the file: one that claims 2^60 elements keeps them busy for
ever. They see only files that were walked through here first.

Source of the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from rope_deploy.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
KEPT = 4096  # numbers of an array that are worth keeping: one for every layer, not one for every token
ALIGNMENT = "general.alignment"
MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class Header:
    """`settings` without the texts of the vocabulary and without long arrays; `tensors` are names."""

    architecture: str
    settings: Mapping[str, Any]
    tensors: tuple[str, ...]


def read_header(path: Path) -> Header:
    """The settings and tensor names of the GGUF file `path`; its weights are not read.

    Raises ModelError for a file that is not GGUF, that is damaged, or that states a setting or a tensor twice.
    """
    with path.open("rb") as stream:
        head = stream.read(len(MAGIC))
        if head != MAGIC:
            raise ModelError(
                f"{path} is not a GGUF file.",
                exists=f"It begins with {head!r}, not {MAGIC!r}." if head else "It is empty.",
                todo="Compare its size with the original and copy it again.",
            )
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                return _Cursor(content).header()
            except _Damaged as fault:
                reason = str(fault)
            except struct.error:
                reason = "it ends in the middle of its settings"
            except UnicodeDecodeError:
                reason = "a name in it is not UTF-8"
    raise ModelError(
        f"Cannot load {path}: {reason}.",
        todo="The file looks damaged or incomplete: compare its size with the original and copy it again.",
    )


class _Damaged(Exception):
    """What is wrong with the file, as the rest of a sentence."""


class _Cursor:
    """A position in a file, which advances with everything read."""

    def __init__(self, content: mmap.mmap):
        self._content, self._at = content, len(MAGIC)

    def header(self) -> Header:
        version, tensors, entries = self._unpack("<IQQ")
        if version not in VERSIONS:
            raise _Damaged(f"it is version {version} of the format, and versions 2 and 3 are known")
        settings: dict[str, Any] = {}
        for _ in range(entries):
            name = self._string()
            if name in settings:
                raise _Damaged(f"it states {name} twice")
            settings[name] = self._value(*self._unpack("<I"))
        architecture = settings.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise _Damaged("it does not state its architecture (general.architecture)")
        alignment = settings.get(ALIGNMENT, 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise _Damaged(f"{ALIGNMENT} is {alignment}, not a power of two")
        return Header(architecture, settings, self._tensors(tensors, alignment))

    def _tensors(self, count: int, alignment: int) -> tuple[str, ...]:
        """The names; every tensor lies in the file."""
        ends: dict[str, int] = {}
        for _ in range(count):
            name, (axes,) = self._string(), self._unpack("<I")
            if name in ends:
                raise _Damaged(f"it holds {name} twice")
            if axes > MOST_DIMENSIONS:
                raise _Damaged(f"{name} has {axes} dimensions")
            *shape, kind, offset = self._unpack(f"<{axes}QIQ")
            ends[name] = offset + _size(name, shape, kind)
        data = (self._at + alignment - 1) // alignment * alignment
        if beyond := [name for name, end in ends.items() if data + end > len(self._content)]:
            raise _Damaged(f"{len(beyond)} of its {count} tensors lie behind its end ({beyond[0]} …)")
        return tuple(ends)

    def _unpack(self, form: str) -> tuple:
        values = struct.unpack_from(form, self._content, self._at)
        self._at += struct.calcsize(form)
        return values

    def _skip(self, size: int) -> None:
        if size > len(self._content) - self._at:
            raise _Damaged("it ends in the middle of its settings")
        self._at += size

    def _string(self) -> str:
        (length,) = self._unpack("<Q")
        start = self._at
        self._skip(length)
        return self._content[start : self._at].decode()

    def _value(self, kind: int) -> Any:
        """A number, a text, a list of numbers; None for what is too long to be kept, or a list of texts."""
        if kind in NUMBERS:
            return self._unpack(f"<{NUMBERS[kind]}")[0]
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            raise _Damaged(f"one of its settings is of type {kind}, which is not known")
        inner, count = self._unpack("<IQ")
        if inner in NUMBERS and count <= KEPT:
            return list(self._unpack(f"<{count}{NUMBERS[inner]}"))
        if inner in NUMBERS:
            return self._skip(count * struct.calcsize(f"<{NUMBERS[inner]}"))
        if inner != STRING:
            raise _Damaged(f"one of its settings is a list of type {inner}, which is not known")
        return self._texts(count)

    def _texts(self, count: int) -> None:
        content, at, end, length = self._content, self._at, len(self._content), struct.Struct("<Q").unpack_from
        for _ in range(count):
            at += 8 + length(content, at)[0]
            if at > end:
                raise _Damaged("it ends in the middle of its settings")
        self._at = at


def _size(name: str, shape: list[int], kind: int) -> int:
    """Bytes of a tensor of a type that gguf knows; ggml's own limit holds for the number of elements."""
    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        raise _Damaged(f"{name} is of type {kind}, which is not known") from None
    elements = math.prod(shape)
    if elements >= 1 << 62 or (shape and shape[0] % block):
        raise _Damaged(f"{name} has {elements} elements, which its type cannot have")
    return elements // block * size
