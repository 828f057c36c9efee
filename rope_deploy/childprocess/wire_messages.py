"""What parent and child send each other, and how it is written.

    down: one Task; then, if the task keeps an object open, Requests
    up:   ("progress", value) any number of times; ("result", value) or ("error", exception) once for the task and
          once for each request

A progress value that is a text names the step under way: a child that dies is reported to have died of it.

A message is pickled; the memory of its arrays follows the pickle as it is, neither copied nor encoded:

    bytes of the pickle, number of buffers    two integers of 8 bytes
    bytes of each buffer                      an integer of 8 bytes each
    the pickle, the buffers

Nothing is unpickled that this package did not pickle: the pipes are the child's alone, and a library's output goes
elsewhere. A library that crashes can still damage what it sends: a size beyond the bounds is refused before memory is
taken for it.
"""

from __future__ import annotations

import importlib
import pickle
import select
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from rope_deploy.childprocess.limits import WITHOUT_LIMITS, Limits

HEAD, LENGTH = struct.Struct("<QQ"), struct.Struct("<Q")
MOST_PICKLED = 1 << 32  # bytes of one pickle
MOST_BUFFERS = 1 << 16
MOST_BYTES = 1 << 36  # of all buffers of a message: no call of a model takes or returns so much


class DamagedMessage(Exception):
    """What was received is no message."""


@dataclass(frozen=True)
class Task:
    """One call of a function of ours, "package.module:name"; `limits` are set before its module is imported.

    `reports`: the function takes the keyword `progress`, a function that sends its argument to the parent. `keeps`:
    it returns a context manager, which stays open and answers requests. `unwinds`: SIGTERM raises SystemExit, so that
    what was begun is removed; otherwise it ends the child at once, whatever native code is running.
    """

    function: str
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = WITHOUT_LIMITS
    reports: bool = False
    keeps: bool = False
    unwinds: bool = False

    def run(self, progress: Callable[[Any], None] | None) -> Any:
        """Call the function in this process."""
        more = {"progress": progress} if self.reports else {}
        return imported(self.function)(*self.arguments, **self.keywords, **more)


@dataclass(frozen=True)
class Request:
    """One use of the open object: a call of its method `name`, or with `arguments` None its attribute `name`.

    The answer for an attribute that is a method is True, for one that is absent None.
    """

    name: str
    arguments: tuple[Any, ...] | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def of(self, opened: Any) -> Any:
        """The answer of the object `opened`."""
        if self.arguments is not None:
            return getattr(opened, self.name)(*self.arguments, **self.keywords)
        value = getattr(opened, self.name, None)
        return True if callable(value) else value


def imported(function: str) -> Callable[..., Any]:
    """The function "package.module:name"."""
    module, name = function.split(":")
    return getattr(importlib.import_module(module), name)


def send(stream: BinaryIO, message: Any) -> None:
    """Write a message. Raises BrokenPipeError when nobody reads any more."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    parts = [buffer.raw() for buffer in buffers]
    lengths = b"".join(LENGTH.pack(part.nbytes) for part in parts)
    for part in (HEAD.pack(len(pickled), len(parts)) + lengths + pickled, *parts):
        write_all(stream, part)


def write_all(stream: BinaryIO, part: bytes | memoryview) -> None:
    """Write `part` to an unbuffered stream, which may take less at a time."""
    rest = memoryview(part)
    while rest.nbytes:
        rest = rest[stream.write(rest) :]


def receive(stream: BinaryIO, until: float | None = None) -> Any:
    """The next message; its arrays can be written to. `stream` is unbuffered if `until` is given.

    Raises EOFError when the other side has ended, also in the middle of a message; TimeoutError at the time `until`
    of the monotonic clock; DamagedMessage for bytes that are no message.
    """
    size, count = HEAD.unpack(exactly(stream, HEAD.size, until))
    _require(size, MOST_PICKLED, "bytes in one pickle")
    _require(count, MOST_BUFFERS, "buffers")
    lengths = [LENGTH.unpack(exactly(stream, LENGTH.size, until))[0] for _ in range(count)]
    _require(sum(lengths), MOST_BYTES, "bytes in buffers")
    pickled = exactly(stream, size, until)
    buffers = [exactly(stream, length, until) for length in lengths]
    try:
        return pickle.loads(pickled, buffers=buffers)
    except Exception as error:  # damaged pickles raise nearly every type
        raise DamagedMessage(f"{type(error).__name__}: {error}") from error


def _require(size: int, most: int, of: str) -> None:
    if size > most:
        raise DamagedMessage(f"{size} {of}, of {most} at most")


def exactly(stream: BinaryIO, size: int, until: float | None) -> bytearray:
    """The next `size` bytes. Raises EOFError and TimeoutError as `receive` does."""
    found = bytearray(size)
    view, done = memoryview(found), 0
    while done < size:
        if until is not None and not select.select([stream], [], [], max(0.0, until - time.monotonic()))[0]:
            raise TimeoutError
        read = stream.readinto(view[done:])
        if not read:
            raise EOFError
        done += read
    return found
