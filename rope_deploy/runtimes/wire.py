"""How arrays travel between two processes: a length, a JSON header of that many bytes, then the arrays' bytes.

Header: any fields of the message, and `arrays`, a list of [name, dtype, shape] in the order of their bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from rope_deploy.runtimes.protocol import Arrays

LENGTH = struct.Struct("<Q")


def send(stream: BinaryIO, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Raises BrokenPipeError when nobody reads any more."""
    # ascontiguousarray would make a scalar one-dimensional
    whole = {name: value if value.flags.c_contiguous else value.copy("C") for name, value in (arrays or {}).items()}
    listed = [[name, value.dtype.name, value.shape] for name, value in whole.items()]
    header = json.dumps({**fields, "arrays": listed}).encode()
    stream.write(LENGTH.pack(len(header)) + header)
    for value in whole.values():
        if value.nbytes:
            stream.write(value.reshape(-1).view(np.uint8).data)
    stream.flush()


def receive(stream: BinaryIO) -> tuple[dict[str, Any], Arrays]:
    """Raises EOFError when the other side has ended, also in the middle of a message."""
    (length,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    fields = json.loads(bytes(_exactly(stream, length)))
    arrays = {}
    for name, dtype, shape in fields.pop("arrays"):
        empty = np.empty(shape, dtype)
        arrays[name] = np.frombuffer(_exactly(stream, empty.nbytes), dtype).reshape(shape) if empty.nbytes else empty
    return fields, arrays


def _exactly(stream: BinaryIO, size: int) -> bytearray:
    """`size` bytes, which arrays made of them may write to."""
    found = bytearray(size)
    view, done = memoryview(found), 0
    while done < size:
        read = stream.readinto(view[done:])
        if not read:
            raise EOFError
        done += read
    return found
