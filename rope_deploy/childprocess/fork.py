"""A function in a fork of this process: C++ that a hostile file can make hang or crash takes nobody with it.

A fork and not a new interpreter: the call is over in milliseconds where nothing is wrong, and starts no thread. The
answer is JSON and not a pickle: what a hostile file makes of the fork cannot make the parent run anything.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, NoReturn

from rope_deploy.childprocess.child import ChildDied, ChildTimedOut
from rope_deploy.childprocess.wire_messages import LENGTH, exactly, write_all

SECONDS = 20.0
ROOM = 1 << 30  # bytes beyond what the process has already
MOST_ANSWERED = 1 << 28  # bytes of the answer


def run_in_fork(function: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """What `function` returns, which must be plain JSON. Where the system has no fork it is simply called.

    Raises ChildTimedOut; ChildDied if it crashes, runs out of memory, raises anything or answers what is no JSON.
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
        with os.fdopen(reads, "rb", 0) as stream:
            return _read(stream, time.monotonic() + seconds)
    except TimeoutError:
        raise ChildTimedOut(seconds) from None
    except EOFError:
        raise ChildDied(-signal.SIGKILL, text="crashes or runs out of memory") from None
    except (ValueError, RecursionError) as error:
        raise ChildDied(None, text="sends what is no answer") from error
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _read(stream: BinaryIO, until: float) -> Any:
    """The answer of the child. Raises ValueError and RecursionError for bytes that are none."""
    size = LENGTH.unpack(exactly(stream, LENGTH.size, until))[0]
    if size > MOST_ANSWERED:
        raise ValueError(f"{size} bytes, of {MOST_ANSWERED} at most")
    return json.loads(exactly(stream, size, until))


def _answer(function: Callable[[], Any], reads: int, writes: int) -> NoReturn:
    """The life of the child."""
    try:
        os.close(reads)
        for number in (1, 2):  # what a library prints while it dies is for nobody
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        _limit()
        with os.fdopen(writes, "wb", 0) as stream:
            content = json.dumps(function()).encode()
            write_all(stream, LENGTH.pack(len(content)) + content)
    finally:
        os._exit(0)


def _limit() -> None:
    """At most ROOM more of address space. Where that cannot be set, time is the only limit, and the caller's own."""
    with suppress(OSError, ValueError):
        with open("/proc/self/statm") as stream:
            held = int(stream.read().split()[0]) * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = held + ROOM
        if soft == resource.RLIM_INFINITY or wanted < soft:
            resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
