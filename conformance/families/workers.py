"""A process for each piece of work, forked from one that has imported everything: no crash ends the sweep, no import
is paid for twice.

`rope_deploy.childprocess` does not fit: its fork is waited for, may take one gigabyte more, and prints to nobody, and
its other children are new interpreters; here several forks run for minutes, each with a log.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

End = Literal["done", "crash", "timeout", "memory"]
EVERY = 0.05  # seconds between looks


@dataclass(frozen=True)
class Job:
    """`work` to be run in a fork, its output written to `log`. The fork is killed, with all it started, when it takes
    longer than `seconds` or more memory than `megabytes`."""

    work: Callable[[], object]
    log: Path
    seconds: float
    megabytes: float


# Yields jobs one after another, is sent how each one ended and what there is to say about that, returns a result.
Plan = Generator[Job, tuple[End, str], Any]


class Child:
    """A job under way."""

    def __init__(self, job: Job):
        self._job, self._deadline = job, time.monotonic() + job.seconds
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            _be_child(job.work, job.log)

    def poll(self) -> tuple[End, str] | None:
        """How it ended, or None while it works."""
        done, status = os.waitpid(self._pid, os.WNOHANG)
        if done:
            return _ending(status)
        if time.monotonic() > self._deadline:
            return self._kill("timeout", f"It took longer than {self._job.seconds:.0f} s.")
        if (used := _megabytes(self._pid)) > self._job.megabytes:
            message = f"It took {used:.0f} MB of memory; the limit is {self._job.megabytes:.0f} MB."
            return self._kill("memory", message)
        return None

    def _kill(self, end: End, message: str) -> tuple[End, str]:
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not got its own session yet
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        return end, message

    def end(self) -> None:
        """Kill it: nobody waits for it any longer."""
        self._kill("crash", "")


def run(plans: Iterable[Plan], jobs: int = 1) -> Iterator[Any]:
    """Carry out `plans`, up to `jobs` of them at a time, and yield their results as they are done."""
    waiting, busy = iter(plans), {}
    try:
        while True:
            while len(busy) < jobs and (plan := next(waiting, None)) is not None:
                try:
                    busy[plan] = Child(next(plan))
                except StopIteration as done:
                    yield done.value
            if not busy:
                return
            time.sleep(EVERY)
            for plan, child in list(busy.items()):
                if (ended := child.poll()) is not None:
                    del busy[plan]
                    try:
                        busy[plan] = Child(plan.send(ended))
                    except StopIteration as done:
                        yield done.value
    finally:
        for child in busy.values():
            child.end()


def _be_child(work: Callable[[], object], log: Path) -> None:
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


def _megabytes(child: int) -> float:
    try:
        return psutil.Process(child).memory_info().rss / 1e6
    except psutil.NoSuchProcess:
        return 0.0
