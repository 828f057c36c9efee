"""Measure contestants once more in a process of their own.

Where memory lies differs from process to process and stays for its life, so a slowdown that is real shows in every
one of them.

On a machine that others use, wall time says little, and processor time of several threads no more: threads that wait
by spinning spend it for nothing. One thread waits for no other: beside a busy process the ratio of such times was,
for an unchanged artifact, 1.02 times the baseline's (benchmarks/results/gate_under_load.json).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from rope_deploy.bench.contestant_job import LONGEST_NOTE, PATIENCE, ContestantJob, open_job
from rope_deploy.bench.latency import Contestant, measure
from rope_deploy.childprocess import ChildFailed, Task, run_in_child
from rope_deploy.errors import RopeDeployError
from rope_deploy.results.records import LatencyRecord
from rope_deploy.runtime_registry import RUNTIMES

MEASURE = "rope_deploy.bench.fresh_process:measure_comparison"
ROUNDS_FACTOR = 2  # with one thread rounds are doubled: a verdict may rest on them alone and needs a narrow interval


@dataclass(frozen=True)
class Comparison:
    """The contestants to compare. Ratios refer to the first; all jobs have the same prompts and threads."""

    jobs: tuple[ContestantJob, ...]
    rounds: int


def measure_in_fresh_process(
    comparison: Comparison, note: Callable[[str], None], *, patience: float = PATIENCE
) -> tuple[LatencyRecord, ...]:
    """Measure in a fresh process; () if it failed or took longer than `patience` seconds, and `note` is told why.

    That fails no run: the same contestants were measured before, and that measurement then stands alone.
    """
    try:
        return run_in_child(Task(MEASURE, (comparison,)), patience=patience)
    except (ChildFailed, RopeDeployError) as error:
        reason = error.asked if isinstance(error, RopeDeployError) else f"it {error}."
        threads = " with one thread" if comparison.jobs[0].threads == 1 else ""
        note(f"Not measured{threads} in a fresh process: {' '.join(reason.split())[:LONGEST_NOTE]}")
        return ()


def with_processor_ratios(
    latencies: Sequence[LatencyRecord], comparison: Comparison, note: Callable[[str], None]
) -> tuple[LatencyRecord, ...]:
    """`latencies` with the ratios of processor times that a fresh process measures, with one thread each.

    A record stays as it is if its runtime or the reference's cannot be told to use one thread, if one was timed
    already, or if the process fails; `note` is told why it failed.
    """
    reference, *others = comparison.jobs
    others = [job for job in others if RUNTIMES[job.runtime].sets_threads]
    if not RUNTIMES[reference.runtime].sets_threads or not others or reference.threads == 1:
        return tuple(latencies)
    single = tuple(replace(job, threads=1) for job in (reference, *others))
    measured = measure_in_fresh_process(Comparison(single, ROUNDS_FACTOR * comparison.rounds), note)
    found = {(one.runtime, one.style, one.workload): one for one in measured}
    return tuple(
        replace(
            record,
            processor_ratio=one.processor_ratio,
            processor_ratio_low=one.processor_ratio_low,
            processor_ratio_high=one.processor_ratio_high,
        )
        if (one := found.get((record.runtime, record.style, record.workload)))
        else record
        for record in latencies
    )


def measure_comparison(comparison: Comparison) -> tuple[LatencyRecord, ...]:
    """Open all contestants in this process, time them in interleaved rounds, and close them."""
    first = comparison.jobs[0]
    with ExitStack() as stack:
        contestants = []
        for job in comparison.jobs:
            manifest = job.manifest()
            style = "" if RUNTIMES[job.runtime].opens == "model" else manifest.style
            contestants.append(Contestant(open_job(stack, job, manifest), manifest, style))
        return measure(
            contestants,
            prompts=first.prompts,
            new=first.new,
            rounds=comparison.rounds,
            reference=contestants[0].label,
            threads=first.threads,
        )
