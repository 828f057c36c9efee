"""Call a function in a forked process: C++ that a hostile file can make hang or crash takes nobody with it.

A fork and not a new interpreter: the call is over in milliseconds where nothing is wrong, and starts no thread.
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


class Ended(Exception):
    """The process did not answer: how it ended, as the end of a sentence."""


def forked(function: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """What `function` returns, which must be plain JSON. Raises Ended; where there is no fork it is simply called."""
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
        content = _read(reads, seconds)
    finally:
        os.close(reads)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if content is None:
        raise Ended(f"takes longer than {seconds:.0f} s")
    if not content:
        raise Ended("crashes or runs out of memory")
    return json.loads(content)


def _answer(function: Callable[[], Any], reads: int, writes: int) -> None:
    """The life of the child; it never returns."""
    try:
        os.close(reads)
        for number in (1, 2):  # what a library says while it dies is for nobody
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
    import resource

    with suppress(OSError, ValueError):
        held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = held + ROOM
        if soft == resource.RLIM_INFINITY or wanted < soft:
            resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


def _read(descriptor: int, seconds: float) -> bytes | None:
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
