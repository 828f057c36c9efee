"""Run a writer in a child that is killed before its Nth change of the file system, for every N.

The child is forked, so that libraries are imported once, and counts by Python's own audit events: no function of the
writer is replaced. SIGKILL leaves it no time to clear up. What the writer forks in its turn is not counted. A writer
that computes with PyTorch's threads hangs in a fork, and is ended as a fault.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
OWN = {"rope_deploy.exchange", "killing.fsync"}
SECONDS = 60
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def changes(action: Callable[[], object]) -> list[str]:
    """What `action` does to the file system when nobody interrupts it, one line for each change."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _run(action, lambda line: os.write(write, (line + "\n").encode("utf-8", "surrogateescape")))
    os.close(write)
    with os.fdopen(read, encoding="utf-8", errors="surrogateescape") as stream:
        lines = stream.read().splitlines()
    status = os.waitpid(child, 0)[1]
    assert status == 0, f"the writer failed by itself: {status}"
    return lines


def kill_before(number: int, action: Callable[[], object]) -> bool:
    """Kill a child that does `action` before change `number` (from 0). False if it had ended by then."""
    child = os.fork()
    if child == 0:
        _run(action, dying_before(number))
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), f"the writer failed by itself: {status}"
    return status == signal.SIGKILL


def dying_before(number: int) -> Callable[[str], None]:
    """What `watch` tells of each change: the process kills itself before change `number`."""
    left = number

    def count(line: str) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    return count


def watch(tell: Callable[[str], object]) -> None:
    """From now on `tell` is called before each change that this process makes; for a process that soon ends."""
    fsync, own = os.fsync, os.getpid()

    def audited(descriptor: int) -> None:
        sys.audit("killing.fsync", descriptor)
        fsync(descriptor)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if _is_change(event, arguments) and os.getpid() == own:
            tell(_line(event, arguments))

    os.fsync = audited
    sys.addaudithook(hook)


def _run(action: Callable[[], object], tell: Callable[[str], object]) -> None:
    """Do `action` in this process, which ends with it."""
    code = 1
    signal.alarm(SECONDS)
    try:
        watch(tell)
        action()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _is_change(event: str, arguments: tuple[object, ...]) -> bool:
    if event == "open":
        return isinstance(arguments[0], str | bytes) and bool(int(arguments[2] or 0) & WRITING)
    return event in CHANGES or event in OWN


def _line(event: str, arguments: tuple[object, ...]) -> str:
    return " ".join([event, *(str(one) for one in arguments if isinstance(one, str | bytes | os.PathLike))])
