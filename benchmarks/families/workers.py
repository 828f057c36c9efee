"""A process for each family, forked from one that has imported everything: no crash ends the sweep, no import is paid
for twice."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import psutil

End = Literal["done", "crash", "timeout", "memory"]
EVERY = 0.1  # seconds between looks


def in_child(work: Callable[[], None], *, log: Path, seconds: float, megabytes: float) -> tuple[End, str]:
    """Run `work` in a fork, its output to `log`; how it ended, and what there is to say about that.

    The child is killed, with all it started, when it takes longer than `seconds` or more memory than `megabytes`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _be_child(work, log)
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return _ending(status)
        if time.monotonic() > deadline:
            return _kill(child, "timeout", f"It took longer than {seconds:.0f} s.")
        if (used := _megabytes(child)) > megabytes:
            return _kill(child, "memory", f"It took {used:.0f} MB of memory; the limit is {megabytes:.0f} MB.")
        time.sleep(EVERY)


def _be_child(work: Callable[[], None], log: Path) -> None:
    """Never returns: whatever happens, nothing of the parent's may run on in the child."""
    code = 1
    try:
        os.setsid()
        sys.stdout = sys.stderr = stream = log.open("w")
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        work()
        code = 0
    except BaseException:  # the child ends here in any case
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ending(status: int) -> tuple[End, str]:
    if os.WIFSIGNALED(status):
        return "crash", f"It was ended by {signal.Signals(os.WTERMSIG(status)).name}."
    code = os.WEXITSTATUS(status)
    return ("done", "") if code == 0 else ("crash", f"It ended with exit code {code}.")


def _kill(child: int, end: End, words: str) -> tuple[End, str]:
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # it has not got its own session yet
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return end, words


def _megabytes(child: int) -> float:
    try:
        return psutil.Process(child).memory_info().rss / 1e6
    except psutil.NoSuchProcess:
        return 0.0
