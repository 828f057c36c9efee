"""Measure how long this process waited for a processor while something was timed.

Load by other processes stretches wall time, and not alike for all: a runtime whose threads sleep at their barriers
waits for a processor at each of them. So two more figures are taken beside wall time:

    processor time   user and system time of the threads of this process, spinning included
    waiting          how long they were ready to run and did not run: Linux counts it for each thread (the second number
                     in /proc/PID/task/TID/schedstat, see the kernel's sched-stats.rst), and on a virtual machine for
                     the processors that the hypervisor gave to others ("steal" in /proc/stat)
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
    """Seconds of everything timed so far: in `wall` and `processor` one entry a run, in `waited` and `stolen` the sum.

    `waited` and `stolen` are None where the system does not tell.
    """

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    waited: float | None = None
    stolen: float | None = None

    @property
    def waiting(self) -> float | None:
        """The share of their ready time in which threads did not run: 0 on a machine of their own, None if unknown."""
        lost = [value for value in (self.waited, self.stolen) if value is not None]
        if not lost:
            return None
        return sum(lost) / max(sum(lost) + sum(self.processor), 1e-9)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Time the block; reading the counters is not timed."""
        waited, stolen, processor = _waited(), _stolen(), time.process_time()
        began = time.perf_counter()
        yield
        self.wall.append(time.perf_counter() - began)
        self.processor.append(time.process_time() - processor)
        self.waited = _add_increase(self.waited, waited, _waited())
        self.stolen = _add_increase(self.stolen, stolen, _stolen())


def _add_increase(total: float | None, before: float | None, after: float | None) -> float | None:
    """`total` plus `after` - `before`. A thread that ended takes its count along: a decrease counts as 0."""
    return total if before is None or after is None else (total or 0.0) + max(after - before, 0.0)


def _waited() -> float | None:
    """Seconds that this process's threads have been ready and not running; None if the kernel does not count."""
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
    """Seconds, summed over this machine's processors, that the hypervisor gave to others; None if it does not tell."""
    return getattr(psutil.cpu_times(), "steal", None)
