"""Who takes part in a benchmark, opened side by side, timed in turn, and then looked at one by one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rope_deploy.artifact import Manifest
from rope_deploy.bench import Contestant, Job, measure, run_alone, workloads
from rope_deploy.bench.latency import arrays, start
from rope_deploy.errors import EnvironmentMissing, UsageError, VendorError
from rope_deploy.models import LoadedModel
from rope_deploy.report.records import ContestantRecord, LatencyRecord
from rope_deploy.runs.baseline import Key
from rope_deploy.runs.frame import Progress
from rope_deploy.runs.opened import Opened
from rope_deploy.runtimes import Runtime, open_ort, open_torch, open_trt
from rope_deploy.runtimes.compiled import open_compiled

TIMED = ("torch", "torch-compile", "ort", "trt")
# What many machines cannot run although nothing is wrong: no GPU, no C++ compiler. The others are then timed without.
OPTIONAL = ("torch-compile", "trt")


@dataclass(frozen=True)
class Entrant:
    """One who is to take part: a runtime and the artifact whose inputs it takes; PyTorch has no style."""

    runtime: str
    opened: Opened
    engine: Path | None = None

    @property
    def style(self) -> str:
        return "" if self.runtime.startswith("torch") else self.opened.manifest.style

    @property
    def label(self) -> str:
        return f"{self.runtime}/{self.style}" if self.style else self.runtime


@dataclass(frozen=True)
class Load:
    """What everybody runs. `source` is where a process of its own finds the PyTorch model, "" if nowhere."""

    prompts: tuple[int, ...]
    new: int
    rounds: int
    threads: int | None = None
    profile: bool = False
    source: str = ""
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Timed:
    latencies: tuple[LatencyRecord, ...]
    contestants: tuple[ContestantRecord, ...]


def entrants(
    artifacts: Sequence[Opened], runtimes: Sequence[str], engine: Path | None = None, engine_style: str = ""
) -> tuple[Entrant, ...]:
    """PyTorch first, to which ratios then refer; then each artifact in ONNX Runtime; then the engine.

    Raises UsageError if an engine's artifact cannot be told.
    """
    found = [Entrant(name, artifacts[0]) for name in ("torch", "torch-compile") if name in runtimes]
    if "ort" in runtimes:
        found += [Entrant("ort", opened) for opened in artifacts]
    if "trt" in runtimes:
        built = [one for one in artifacts if engine_style in ("", one.manifest.style)]
        if len(built) != 1:
            raise UsageError("An engine is timed with the one artifact it was built from.", todo="Name that folder.")
        found.append(Entrant("trt", built[0], engine))
    return tuple(found)


def keys(entered: Sequence[Entrant], load: Load) -> tuple[Key, ...]:
    """What a baseline must know: every contestant but the one that ratios refer to, on every workload."""
    new = load.new if entered[0].opened.manifest.cache else 0
    names = [workload.name for workload in workloads(load.prompts, new)]
    return tuple((one.runtime, one.style, name) for name in names for one in entered[1:])


def time_all(entered: Sequence[Entrant], loaded: LoadedModel | None, load: Load, progress: Progress) -> Timed:
    """Open everything at once, with the same number of threads each, and let them take turns.

    An optional runtime that cannot run here is left out and says why. If nobody is left, its error is raised.
    """
    with ExitStack() as stack:
        taking_part, records, errors = [], [], []
        for entrant in entered:
            try:
                taking_part.append(_enter(stack, entrant, loaded, load, progress))
                records.append(ContestantRecord(entrant.runtime, entrant.style, "passed"))
            except (EnvironmentMissing, VendorError) as error:
                if entrant.runtime not in OPTIONAL:
                    raise
                errors.append(error)
                records.append(ContestantRecord(entrant.runtime, entrant.style, "skipped", error.asked))
        if not taking_part:
            raise errors[0]
        latencies = measure(
            taking_part,
            prompts=load.prompts,
            new=load.new if entered[0].opened.manifest.cache else 0,
            rounds=load.rounds,
            baseline=taking_part[0].label,
            threads=load.threads,
            progress=lambda workload, done, total: progress(f"Timing {workload}: round {done} of {total}"),
        )
    if not load.profile:
        return Timed(latencies, tuple(records))
    return _looked_at(entered, Timed(latencies, tuple(records)), load, progress)


def _enter(
    stack: ExitStack, entrant: Entrant, loaded: LoadedModel | None, load: Load, progress: Progress
) -> Contestant:
    """Open it; torch.compile also runs once each way, since that is when it compiles or fails to."""
    progress(f"{'Compiling' if entrant.runtime == 'torch-compile' else 'Opening'} {entrant.label}")
    manifest = entrant.opened.manifest
    opened = stack.enter_context(_open(entrant, loaded, load))
    if entrant.runtime == "torch-compile":
        _first_run(opened, manifest, load)
    return Contestant(opened, manifest, entrant.style)


def _open(entrant: Entrant, loaded: LoadedModel | None, load: Load) -> Runtime:
    match entrant.runtime:
        case "torch":
            return open_torch(loaded, threads=load.threads)
        case "torch-compile":
            return open_compiled(loaded, threads=load.threads)
        case "trt":
            if entrant.engine is None:
                raise EnvironmentMissing("There is no engine to time: it was not built.")
            return open_trt(entrant.engine, entrant.opened.manifest)
    return open_ort(entrant.opened.folder, threads=load.threads, verify=False)


def _first_run(runtime: Runtime, manifest: Manifest, load: Load) -> None:
    for workload in workloads(load.prompts[:1], load.new if manifest.cache else 0):
        runtime.run(arrays(manifest, workload.tokens, workload.past) | start(runtime, manifest, workload))


def _looked_at(entered: Sequence[Entrant], timed: Timed, load: Load, progress: Progress) -> Timed:
    """Add what each contestant needs by itself: memory, and the rotation's share of its time."""
    contestants, shares = [], {}
    for entrant, record in zip(entered, timed.contestants, strict=True):
        if record.verdict == "passed":
            progress(f"Profiling {entrant.label}")
            job = _job(entrant, load)
            found = run_alone(job) if job else None
            note = (
                found.note if found else "Not measured: the model was handed over loaded, and has no name to load by."
            )
            shares |= {(*_who(record), name): share for name, share in (found.shares if found else {}).items()}
            record = replace(
                record,
                note=note,
                **{
                    name: getattr(found, name) if found else None
                    for name in ("peak_bytes", "resident_bytes", "before_bytes", "arena_bytes")
                },
            )
        contestants.append(record)
    latencies = (replace(one, rotation_share=shares.get((*_who(one), one.workload))) for one in timed.latencies)
    return Timed(tuple(latencies), tuple(contestants))


def _who(record: LatencyRecord | ContestantRecord) -> tuple[str, str]:
    return record.runtime, record.style


def _job(entrant: Entrant, load: Load) -> Job | None:
    if entrant.runtime.startswith("torch") and not load.source:
        return None
    return Job(
        runtime=entrant.runtime,
        folder=str(entrant.opened.folder),
        prompts=load.prompts,
        new=load.new,
        threads=load.threads,
        source=load.source,
        dtype=entrant.opened.manifest.dtype,
        trust_remote_code=load.trust_remote_code,
        engine=str(entrant.engine or ""),
    )
