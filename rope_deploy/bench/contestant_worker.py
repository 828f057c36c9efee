"""What runs a contestant in a process of its own: `rehearse`, and the process behind `run_alone`.

That one reads a job on standard input and answers by one line of JSON on standard output, the last one.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict
from pathlib import Path

import psutil

from rope_deploy.artifact import Manifest, load_manifest
from rope_deploy.bench.contestant_process import Alone, Job
from rope_deploy.bench.latency import Workload, arrays, start, workloads
from rope_deploy.errors import RopeDeployError
from rope_deploy.graph.analysis.vocabulary import with_vocabulary
from rope_deploy.runtimes import Runtime, as_past, open_ort, open_torch, open_trt

COUNTED = 5  # runs of each workload that the profile is made of, after one that is not counted


def rehearse(job: Job) -> None:
    """Open the contestant and make every call that is going to be timed, for a process that may die of it."""
    manifest = with_vocabulary(load_manifest(Path(job.folder)), Path(job.folder))
    with ExitStack() as stack:
        _run_all(open_job(stack, job, manifest), manifest, job)


def measure_alone(job: Job) -> Alone:
    """Open the contestant, run each workload, and read what the system says of this process; then profile it."""
    manifest = with_vocabulary(load_manifest(Path(job.folder)), Path(job.folder))
    before = psutil.Process().memory_info().rss
    with ExitStack() as stack:
        wanted = _run_all(open_job(stack, job, manifest), manifest, job)
        resident = psutil.Process().memory_info().rss
        peak = most_resident()
    found = Alone(peak_bytes=max(peak, resident), resident_bytes=resident, before_bytes=before)
    return _profiled(found, job, manifest, wanted) if job.runtime == "ort" else _unsplit(found, job)


def most_resident() -> int:
    """Bytes that were resident in this process at most (VmHWM).

    Not getrusage's ru_maxrss, which survives exec: it would tell of the parent, from which this process was forked.
    """
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def open_job(stack: ExitStack, job: Job, manifest: Manifest) -> Runtime:
    """Open the runtime that `job` names, without taps, until `stack` ends."""
    if job.runtime == "ort":
        return stack.enter_context(open_ort(Path(job.folder), threads=job.threads, verify=False))
    if job.runtime == "trt":
        return stack.enter_context(open_trt(Path(job.engine), manifest))
    from rope_deploy.models import load_model  # PyTorch is 200 MB that ONNX Runtime does not need
    from rope_deploy.runtimes.torch_compiled import open_compiled

    loaded = load_model(job.source, dtype=job.dtype, trust_remote_code=job.trust_remote_code)
    opened = open_torch if job.runtime == "torch" else open_compiled
    return stack.enter_context(opened(loaded, threads=job.threads))


def _run_all(runtime: Runtime, manifest: Manifest, job: Job) -> tuple[Workload, ...]:
    """Every workload of the job, once; returns them."""
    wanted = workloads(job.prompts, job.new if manifest.cache else 0)
    for workload in wanted:
        past = start(runtime, manifest, workload)
        for step in range(workload.steps):
            past = as_past(manifest, runtime.run(arrays(manifest, workload.tokens, workload.past + step) | past))
    return wanted


def _profiled(found: Alone, job: Job, manifest: Manifest, wanted: tuple[Workload, ...]) -> Alone:
    from rope_deploy.runtimes.ort_profile import Profiler

    profiler = Profiler(Path(job.folder), manifest, threads=job.threads)
    for workload in wanted:
        past = start(profiler, manifest, workload)
        feeds = arrays(manifest, workload.tokens, workload.past) | past
        profiler.run(feeds)
        for _ in range(COUNTED):
            profiler.run(feeds, workload.name)
    profile = profiler.finish()
    note = ""
    if profile.inside == profile.sites:
        note = "The rotation happens inside the fused attention: its share of the time cannot be told."
    elif profile.inside:
        note = (
            f"{profile.inside} of {profile.sites} rotations happen inside a fused attention and are not in the share."
        )
    return Alone(**{**asdict(found), "arena_bytes": profile.arena_bytes, "shares": profile.shares, "note": note})


def _unsplit(found: Alone, job: Job) -> Alone:
    names = {"torch": "PyTorch", "torch-compile": "torch.compile", "trt": "TensorRT"}
    note = f"The rotation's share of the time is read from ONNX Runtime's profiler; {names[job.runtime]} has none here."
    return Alone(**{**asdict(found), "note": note})


def main() -> int:
    # A model's own code and libraries print where they like; standard output is for the answer.
    with redirect_stdout(sys.stderr):
        try:
            found = measure_alone(Job.from_json(sys.stdin.read()))
        except RopeDeployError as error:
            print(error.asked, file=sys.stderr)
            return error.exit_code
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
