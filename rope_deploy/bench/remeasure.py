"""Measure once more in a process of its own: `python -m rope_deploy.bench.remeasure` takes a job on standard input.

Where memory lies differs from process to process and stays for its life, so a slowdown that is real shows in every
one of them. The answer is one line of JSON, the last on standard output.

On a machine that others use, wall time says little, and processor time no more: threads that wait by spinning spend
it for nothing, the more the longer they wait. One thread waits for nobody: beside a busy process the ratio of such
processor times moved by 2 % (benchmarks/results/gate_under_load.json).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rope_deploy.artifact import load_manifest
from rope_deploy.bench.contestant_process import Job
from rope_deploy.bench.latency import Contestant, measure
from rope_deploy.childprocess import ask
from rope_deploy.errors import RopeDeployError
from rope_deploy.graph.analysis.vocabulary import with_vocabulary
from rope_deploy.results.records import LatencyRecord

MODULE = "rope_deploy.bench.remeasure"
PATIENCE = 1800  # seconds
SINGLE = ("torch", "ort")  # who can be told to take one thread: compiled code has its number built in
MORE_ROUNDS = 2  # times as many with one thread: a verdict that rests on them alone wants a narrow interval


@dataclass(frozen=True)
class Rerun:
    """Who takes part (the first is the one that ratios refer to), with prompts and threads of the jobs alike."""

    jobs: tuple[Job, ...]
    rounds: int

    def to_json(self) -> str:
        return json.dumps({"jobs": [json.loads(job.to_json()) for job in self.jobs], "rounds": self.rounds})

    @classmethod
    def from_json(cls, text: str) -> Rerun:
        read = json.loads(text)
        return cls(tuple(Job.from_json(json.dumps(job)) for job in read["jobs"]), read["rounds"])


def measure_again(rerun: Rerun, *, module: str = MODULE, patience: float = PATIENCE) -> tuple[LatencyRecord, ...]:
    """What a fresh process measures; () if it did not come to an end. Never raises for what happens there."""
    try:
        done = ask(module, rerun.to_json(), patience)
    except subprocess.TimeoutExpired:
        return ()
    if done.returncode != 0:
        return ()
    return tuple(LatencyRecord(**record) for record in json.loads(done.stdout.splitlines()[-1]))


def with_processor_ratios(latencies: Sequence[LatencyRecord], rerun: Rerun) -> tuple[LatencyRecord, ...]:
    """`latencies` of the contestants of `rerun`, with the ratios of processor times that a fresh process measures."""
    reference, *others = rerun.jobs
    others = [job for job in others if job.runtime in SINGLE]
    if reference.runtime not in SINGLE or not others or reference.threads == 1:
        return tuple(latencies)
    single = tuple(replace(job, threads=1) for job in (reference, *others))
    measured = measure_again(Rerun(single, MORE_ROUNDS * rerun.rounds))
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


def run(rerun: Rerun) -> tuple[LatencyRecord, ...]:
    """Open all contestants, let them take turns, and close them."""
    from rope_deploy.bench.contestant_worker import open_job

    first = rerun.jobs[0]
    with ExitStack() as stack:
        contestants = []
        for job in rerun.jobs:
            manifest = with_vocabulary(load_manifest(Path(job.folder)), Path(job.folder))
            style = "" if job.runtime.startswith("torch") else manifest.style
            contestants.append(Contestant(open_job(stack, job, manifest), manifest, style))
        return measure(
            contestants,
            prompts=first.prompts,
            new=first.new,
            rounds=rerun.rounds,
            baseline=contestants[0].label,
            threads=first.threads,
        )


def main() -> int:
    with redirect_stdout(sys.stderr):  # libraries and a model's own code print where they like
        try:
            found = run(Rerun.from_json(sys.stdin.read()))
        except RopeDeployError as error:
            print(error.asked, file=sys.stderr)
            return error.exit_code
    print(json.dumps([asdict(record) for record in found]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
