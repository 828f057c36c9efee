"""Describe a contestant by names alone, so that another process can open it and make the calls that are timed."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rope_deploy.artifact import Manifest, load_manifest
from rope_deploy.bench.latency import Workload, initial_past, random_feeds, workloads
from rope_deploy.graph.analysis.vocabulary import with_vocabulary
from rope_deploy.runtime_registry import RUNTIMES
from rope_deploy.runtimes import Runtime, Target, as_past, open_runtime

PATIENCE = 1800  # seconds after which a process that measures is ended
LONGEST_NOTE = 200  # characters of the reason why nothing was measured


@dataclass(frozen=True)
class ContestantJob:
    """A contestant and the workloads to run it on. `folder` is the artifact, `source` the PyTorch model ("": none).

    `prompts` are lengths in tokens, `new` is the number of tokens to decode after each. `threads` None: the runtime
    chooses.
    """

    runtime: str
    folder: str
    prompts: tuple[int, ...]
    new: int
    threads: int | None = None
    source: str = ""
    dtype: str = "float32"
    trust_remote_code: bool = False
    engine: str = ""

    def manifest(self) -> Manifest:
        """The artifact's manifest, with its vocabulary. Raises what `load_manifest` raises."""
        return with_vocabulary(load_manifest(Path(self.folder)), Path(self.folder))


def rehearse(job: ContestantJob) -> None:
    """Open the contestant and make every call that is going to be timed, in a process that may die of it."""
    manifest = job.manifest()
    with ExitStack() as stack:
        run_workloads(open_job(stack, job, manifest), manifest, job)


def open_job(stack: ExitStack, job: ContestantJob, manifest: Manifest) -> Runtime:
    """Open the runtime that `job` names, without taps, until `stack` ends."""
    loaded = None
    if RUNTIMES[job.runtime].opens == "model":
        from rope_deploy.models import load_model  # PyTorch is 200 MB that ONNX Runtime does not need

        loaded = load_model(job.source, dtype=job.dtype, trust_remote_code=job.trust_remote_code)
    engine = Path(job.engine) if job.engine else None
    target = Target(Path(job.folder), engine, loaded, manifest, threads=job.threads)
    return stack.enter_context(open_runtime(job.runtime, target))


def run_workloads(runtime: Runtime, manifest: Manifest, job: ContestantJob) -> tuple[Workload, ...]:
    """Run every workload of the job once and return the workloads; without a KV cache there is no decoding."""
    wanted = workloads(job.prompts, job.new if manifest.cache else 0)
    for workload in wanted:
        past = initial_past(runtime, manifest, workload)
        for step in range(workload.steps):
            past = as_past(manifest, runtime.run(random_feeds(manifest, workload.tokens, workload.past + step) | past))
    return wanted
