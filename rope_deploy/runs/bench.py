"""`bench`: prefill and decode, PyTorch and every artifact in turn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rope_deploy.bench import Contestant, measure
from rope_deploy.errors import UsageError
from rope_deploy.models import LoadedModel
from rope_deploy.report.records import LatencyRecord, Report
from rope_deploy.runs.baseline import against, read_baseline
from rope_deploy.runs.frame import Frame, Progress
from rope_deploy.runs.opened import Opened, model_of, open_artifacts, require_runtimes
from rope_deploy.runtimes import open_ort, open_torch, open_trt

DEFAULT_ROUNDS = 10


def bench_artifacts(
    folder: Path,
    *,
    runtimes: Sequence[str] = ("ort",),
    model: str | LoadedModel | None = None,
    engine: Path | None = None,
    prompt: int = 128,
    new: int = 16,
    rounds: int = DEFAULT_ROUNDS,
    threads: int | None = None,
    baseline: Path | None = None,
    trust_remote_code: bool = False,
    progress: Progress = lambda step: None,
) -> Report:
    """Time the artifact in `folder` (or each one inside it) on the runtimes asked for, all in interleaved rounds.

    Ratios refer to PyTorch if it takes part, else to the first artifact. `baseline`, an earlier JSON report, adds a
    gate for each ratio.
    """
    earlier = read_baseline(baseline) if baseline is not None else None
    require_runtimes(runtimes, engine)
    artifacts = open_artifacts(folder)
    frame = Frame(f"Latency of {folder}", artifacts[0].manifest.source)
    loaded = None
    if "torch" in runtimes:
        progress(f"Loading {artifacts[0].manifest.source if model is None else model}")
        loaded = model_of(artifacts, model, trust_remote_code=trust_remote_code)
    latencies = time_all(
        artifacts, loaded, runtimes, engine, prompt=prompt, new=new, rounds=rounds, threads=threads, progress=progress
    )
    return frame.report(latencies=latencies, gates=against(latencies, earlier) if earlier is not None else ())


def time_all(
    artifacts: Sequence[Opened],
    loaded: LoadedModel | None,
    runtimes: Sequence[str],
    engine: Path | None = None,
    *,
    prompt: int,
    new: int,
    rounds: int,
    threads: int | None,
    progress: Progress,
) -> tuple[LatencyRecord, ...]:
    """Open everything at once, with the same number of threads each, and let them take turns."""
    with ExitStack() as stack:
        contestants = []
        if "torch" in runtimes and loaded is not None:
            torch = stack.enter_context(open_torch(loaded, threads=threads))
            contestants.append(Contestant(torch, artifacts[0].manifest))
        for opened in artifacts:
            if "ort" in runtimes:
                progress(f"Opening {opened.manifest.style} in ONNX Runtime")
                session = stack.enter_context(open_ort(opened.folder, threads=threads, verify=False))
                contestants.append(Contestant(session, opened.manifest, opened.manifest.style))
        if "trt" in runtimes:
            contestants.append(_engine(stack, artifacts, engine))
        return measure(
            contestants,
            prompt=prompt,
            new=new if artifacts[0].manifest.cache else 0,
            rounds=rounds,
            baseline=contestants[0].label,
            progress=lambda workload, done, total: progress(f"Timing {workload}: round {done} of {total}"),
        )


def _engine(stack: ExitStack, artifacts: Sequence[Opened], engine: Path | None) -> Contestant:
    if len(artifacts) != 1 or engine is None:
        raise UsageError("An engine is timed with the one artifact it was built from.", todo="Name that folder.")
    manifest = artifacts[0].manifest
    return Contestant(stack.enter_context(open_trt(engine, manifest)), manifest, manifest.style)
