"""Processor contention: how long this process waited for a processor while something was timed.

Load by other processes stretches wall time, and not alike for all: a runtime whose threads sleep at their barriers
waits for a processor at each of them. Two figures that load does not stretch, or that show it, are taken beside wall
time:

    processor time   what the threads of this process really computed (user and system time)
    waiting          what they would have computed on a machine of their own: Linux counts for each thread how long it
                     was ready to run and did not (proc(5), /proc/PID/task/TID/schedstat, the second number); on a
                     virtual machine the hypervisor adds what it gave to others ("steal" in /proc/stat)
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

TASKS = Path("/proc/self/task")


@dataclass
class TimeSpent:
    """Seconds, summed over everything timed so far. `waited` and `stolen` are None where the system does not tell."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    waited: float | None = None
    stolen: float | None = None

    @property
    def waiting(self) -> float | None:
        """The share of the time in which threads were ready to run, that they did not: 0 on a machine of their own."""
        lost = [value for value in (self.waited, self.stolen) if value is not None]
        if not lost:
            return None
        return sum(lost) / max(sum(lost) + sum(self.processor), 1e-9)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Time what happens inside; reading the counters is left out."""
        waited, stolen, processor = _waited(), _stolen(), time.process_time()
        began = time.perf_counter()
        yield
        self.wall.append(time.perf_counter() - began)
        self.processor.append(time.process_time() - processor)
        self.waited = _more(self.waited, waited, _waited())
        self.stolen = _more(self.stolen, stolen, _stolen())


def _more(total: float | None, before: float | None, after: float | None) -> float | None:
    """`total` and what came in between; a thread that ended takes its count along, which is no negative waiting."""
    return total if before is None or after is None else (total or 0.0) + max(after - before, 0.0)


def _waited() -> float | None:
    """Seconds that the threads of this process have been ready and not running."""
    total, read = 0, False
    try:
        for task in os.scandir(TASKS):
            try:
                with open(f"{task.path}/schedstat") as stream:
                    total += int(stream.read().split()[1])
                    read = True
            except (OSError, IndexError, ValueError):  # the thread has ended, or the kernel does not count
                continue
    except OSError:
        return None
    return total / 1e9 if read else None


def _stolen() -> float | None:
    """Seconds of this machine's processors that the hypervisor gave to others, of all processors together."""
    return getattr(psutil.cpu_times(), "steal", None)
