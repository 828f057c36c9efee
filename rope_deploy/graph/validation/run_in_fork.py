"""Call a function in a forked process, so that C++ code that hangs or crashes on a hostile file does not end this one.

It is a fork and not a new interpreter (childprocess.py) because it runs for every file that is read: a fork takes
milliseconds and has the model already, a new interpreter would import onnx again.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

SECONDS = 20.0
ROOM = 1 << 30  # bytes beyond what the process has already


class ForkFailed(Exception):
    """The process did not answer; the message says how it ended, as the end of a sentence."""


def run_in_fork(function: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """What `function` returns, which must be plain JSON. Raises ForkFailed.

    On a system without fork (Windows) `function` is called here, and may end this process.
    """
    if not hasattr(os, "fork"):
        return function()
    reads, writes = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads: the child calls nothing that they hold
        child = os.fork()
    if child == 0:
        _answer(function, reads, writes)
    os.close(writes)
    try:
        content = _read_all(reads, seconds)
    finally:
        os.close(reads)
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if content is None:
        raise ForkFailed(f"takes longer than {seconds:.0f} s")
    if not content:
        raise ForkFailed("crashes or runs out of memory")
    return json.loads(content)


def _answer(function: Callable[[], Any], reads: int, writes: int) -> None:
    """Run in the child: write what `function` returns, or nothing if it raises, and exit."""
    try:
        os.close(reads)
        for number in (1, 2):  # a library's last messages are not shown: the parent reports how the child ended
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        _limit()
        content = json.dumps(function()).encode()
        while content:
            content = content[os.write(writes, content) :]
    finally:
        os._exit(0)


def _limit() -> None:
    """Limit the memory of this process. Where the system refuses, the time limit alone holds."""
    import resource

    with suppress(OSError, ValueError):
        held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = held + ROOM
        if soft == resource.RLIM_INFINITY or wanted < soft:
            resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


def _read_all(descriptor: int, seconds: float) -> bytes | None:
    """All that is written until the end, None if that does not come in time."""
    until, parts = time.monotonic() + seconds, []
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([descriptor], [], [], left)
        if not ready:
            break
        block = os.read(descriptor, 1 << 20)
        if not block:
            return b"".join(parts)
        parts.append(block)
    return None
