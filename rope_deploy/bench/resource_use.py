"""Measure the memory of one contestant, and the share of its time that the rotation takes.

Both are measured in a process of its own. Memory of several models in one process cannot be told apart, and a
profiler slows down what it watches. If the process dies, only its own figures are lost.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from rope_deploy.artifact import Manifest
from rope_deploy.bench.contestant_job import LONGEST_NOTE, PATIENCE, ContestantJob, open_job, run_workloads
from rope_deploy.bench.latency import Workload, initial_past, random_feeds
from rope_deploy.childprocess import ChildDied, ChildTimedOut, Task, run_in_child
from rope_deploy.errors import RopeDeployError
from rope_deploy.runtime_registry import RUNTIMES

MEASURE = "rope_deploy.bench.resource_use:measure_resource_use"
PROFILED_RUNS = 5  # of each workload, after one that is not counted


@dataclass(frozen=True)
class ResourceUse:
    """The figures of one contestant, as `ContestantRecord` explains them. `shares`: the rotation's part of the time, by
    workload. `note`: what could not be measured, and why."""

    peak_bytes: int | None = None
    resident_bytes: int | None = None
    before_bytes: int | None = None
    arena_bytes: int | None = None
    shares: dict[str, float | None] = field(default_factory=dict)
    note: str = ""


def resource_use_in_child(job: ContestantJob, *, patience: float = PATIENCE) -> ResourceUse:
    """Measure `job` in a child, for at most `patience` seconds. Whatever goes wrong there becomes the note."""
    try:
        return run_in_child(Task(MEASURE, (job,)), patience=patience)
    except ChildTimedOut:
        return ResourceUse(note=f"Not measured: it took more than {patience:.0f} seconds.")
    except ChildDied as death:
        last = death.lines[-1].strip() if death.lines else "it said nothing"
        return ResourceUse(note=f"Not measured: its process {death} ({last[:LONGEST_NOTE]}).")
    except RopeDeployError as error:
        return _unmeasured(error.asked)
    except Exception as error:
        return _unmeasured(f"{type(error).__name__}: {error}")


def _unmeasured(reason: str) -> ResourceUse:
    return ResourceUse(note=f"Not measured: {' '.join(reason.split())[:LONGEST_NOTE]}")


def measure_resource_use(job: ContestantJob) -> ResourceUse:
    """Open the contestant, run each workload once, and read the memory of this process; then profile it if possible."""
    manifest = job.manifest()
    before = psutil.Process().memory_info().rss
    with ExitStack() as stack:
        wanted = run_workloads(open_job(stack, job, manifest), manifest, job)
        resident = psutil.Process().memory_info().rss
        peak = most_resident()
    found = ResourceUse(peak_bytes=max(peak, resident), resident_bytes=resident, before_bytes=before)
    kind = RUNTIMES[job.runtime]
    if kind.profiled:
        return _with_profile(found, job, manifest, wanted)
    profiled = " and ".join(one.title for one in RUNTIMES.values() if one.profiled)
    note = f"The rotation's share of the time is read from {profiled}'s profiler; {kind.title} has none here."
    return replace(found, note=note)


def most_resident() -> int:
    """The largest number of bytes that were resident in this process (VmHWM of /proc/self/status).

    getrusage's ru_maxrss survives exec, so it may be that of the parent, from which this process was forked.
    """
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _with_profile(
    found: ResourceUse, job: ContestantJob, manifest: Manifest, wanted: tuple[Workload, ...]
) -> ResourceUse:
    from rope_deploy.runtimes.ort_profile import Profiler

    profiler = Profiler(Path(job.folder), manifest, threads=job.threads)
    for workload in wanted:
        past = initial_past(profiler, manifest, workload)
        feeds = random_feeds(manifest, workload.tokens, workload.past) | past
        profiler.run(feeds)
        for _ in range(PROFILED_RUNS):
            profiler.run(feeds, workload.name)
    profile = profiler.finish()
    note = ""
    if profile.inside == profile.sites:
        note = "The rotation happens inside the fused attention: its share of the time cannot be told."
    elif profile.inside:
        note = (
            f"{profile.inside} of {profile.sites} rotations happen inside a fused attention and are not in the share."
        )
    return replace(found, arena_bytes=profile.arena_bytes, shares=profile.shares, note=note)
