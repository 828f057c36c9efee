"""Who takes part in a benchmark, opened side by side, timed in turn, and then looked at one by one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rope_deploy.artifact import Manifest
from rope_deploy.bench import (
    Comparison,
    Contestant,
    ContestantJob,
    measure,
    measure_in_fresh_process,
    resource_use_in_child,
    with_processor_ratios,
    workloads,
)
from rope_deploy.bench.latency import initial_past, random_feeds, require_fit
from rope_deploy.childprocess import WITHOUT_LIMITS, call
from rope_deploy.errors import EnvironmentMissing, UsageError, VendorError
from rope_deploy.graph.analysis.vocabulary import with_vocabulary
from rope_deploy.models import LoadedModel
from rope_deploy.results.records import ContestantRecord, LatencyRecord
from rope_deploy.runs.baseline import Key
from rope_deploy.runs.open_artifact import Opened
from rope_deploy.runs.report_frame import Progress
from rope_deploy.runtimes import RUNTIMES, Runtime, Target, open_runtime

REHEARSE = "rope_deploy.bench.contestant_job:rehearse"


@dataclass(frozen=True)
class Entrant:
    """One who is to take part: a runtime and the artifact whose inputs it takes; PyTorch has no style."""

    runtime: str
    opened: Opened
    engine: Path | None = None

    @property
    def style(self) -> str:
        return "" if RUNTIMES[self.runtime].opens == "model" else self.opened.manifest.style

    @property
    def label(self) -> str:
        return f"{self.runtime}/{self.style}" if self.style else self.runtime


@dataclass(frozen=True)
class Load:
    """What everybody runs. `source` is where a process of its own finds the PyTorch model, "" if nowhere.

    `processor`: the ratios of processor times are taken too, which a baseline needs on a machine that others use.
    """

    prompts: tuple[int, ...]
    new: int
    rounds: int
    threads: int | None = None
    profile: bool = False
    source: str = ""
    trust_remote_code: bool = False
    processor: bool = False


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
    found: list[Entrant] = []
    for record in (one for one in RUNTIMES.values() if one.name in runtimes):
        if record.opens == "engine":
            built = [one for one in artifacts if engine_style in ("", one.manifest.style)]
            if len(built) != 1:
                raise UsageError(
                    "An engine is timed with the one artifact it was built from.", todo="Name that folder."
                )
            found.append(Entrant(record.name, built[0], engine))
        else:
            found += [Entrant(record.name, one) for one in (artifacts if record.opens == "artifact" else artifacts[:1])]
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
    for entrant in entered:
        require_fit(entrant.label, entrant.opened.manifest, load.prompts, load.new)
    with ExitStack() as stack:
        taking_part, records, errors = [], [], []
        for entrant in entered:
            try:
                taking_part.append(_enter(stack, entrant, loaded, load, progress))
                records.append(ContestantRecord(entrant.runtime, entrant.style, "passed"))
            except (EnvironmentMissing, VendorError) as error:
                if not RUNTIMES[entrant.runtime].optional:
                    raise
                errors.append(error)
                records.append(ContestantRecord(entrant.runtime, entrant.style, "skipped", _in_a_line(error)))
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
    if load.processor:
        here = {(one.runtime, one.style) for one in records if one.verdict == "passed"}
        jobs = [_job(one, load) for one in entered if (one.runtime, one.style) in here]
        if None not in jobs:
            progress("Timing with one thread in a fresh process")
            latencies = with_processor_ratios(latencies, Comparison(tuple(jobs), load.rounds))
    if not load.profile:
        return Timed(latencies, tuple(records))
    return _looked_at(entered, Timed(latencies, tuple(records)), load, progress)


def time_again(
    entered: Sequence[Entrant], load: Load, wanted: Collection[Key], progress: Progress
) -> tuple[LatencyRecord, ...]:
    """The ratios `wanted` once more, in a fresh process; () where PyTorch was handed over loaded, with no name."""
    reference = entered[0]
    others = [one for one in entered[1:] if any((one.runtime, one.style) == key[:2] for key in wanted)]
    jobs = [_job(one, load) for one in (reference, *others)]
    if not others or None in jobs:
        return ()
    names = {key[2] for key in wanted}
    lengths = tuple(n for n in load.prompts if names & {one.name for one in workloads((n,), load.new)})
    new = load.new if names - {one.name for one in workloads(lengths, 0)} else 0
    progress(f"Measuring again in a fresh process: {', '.join(sorted(names))}")
    rerun = Comparison(tuple(replace(job, prompts=lengths, new=new) for job in jobs), load.rounds)
    return with_processor_ratios(measure_in_fresh_process(rerun), rerun)


def _enter(
    stack: ExitStack, entrant: Entrant, loaded: LoadedModel | None, load: Load, progress: Progress
) -> Contestant:
    """Open it; torch.compile also runs once each way, since that is when it compiles or fails to."""
    progress(f"{'Compiling' if entrant.runtime == 'torch-compile' else 'Opening'} {entrant.label}")
    manifest = with_vocabulary(entrant.opened.manifest, entrant.opened.folder)
    opened = stack.enter_context(_open(entrant, loaded, load))
    if entrant.runtime == "torch-compile":
        _first_run(opened, manifest, load)
    return Contestant(opened, manifest, entrant.style)


def _open(entrant: Entrant, loaded: LoadedModel | None, load: Load) -> Runtime:
    opens = RUNTIMES[entrant.runtime].opens
    if opens == "artifact" or (opens == "engine" and entrant.engine is not None):
        _rehearse(entrant, load)
    opened = entrant.opened
    target = Target(opened.folder, entrant.engine, loaded, opened.manifest, threads=load.threads)
    return open_runtime(entrant.runtime, target)


def _rehearse(entrant: Entrant, load: Load) -> None:
    """A file may crash its runtime: it does so in a process of its own, by the calls that are timed in this one."""
    doing = f"Trying {entrant.label} of {entrant.opened.folder}"
    call(REHEARSE, _job(entrant, load), doing=doing, limits=WITHOUT_LIMITS)


def _first_run(runtime: Runtime, manifest: Manifest, load: Load) -> None:
    for workload in workloads(load.prompts[:1], load.new if manifest.cache else 0):
        runtime.run(random_feeds(manifest, workload.tokens, workload.past) | initial_past(runtime, manifest, workload))


def _looked_at(entered: Sequence[Entrant], timed: Timed, load: Load, progress: Progress) -> Timed:
    """Add what each contestant needs by itself: memory, and the rotation's share of its time."""
    contestants, shares = [], {}
    for entrant, record in zip(entered, timed.contestants, strict=True):
        if record.verdict == "passed":
            progress(f"Profiling {entrant.label}")
            job = _job(entrant, load)
            found = resource_use_in_child(job) if job else None
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


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _who(record: LatencyRecord | ContestantRecord) -> tuple[str, str]:
    return record.runtime, record.style


def _job(entrant: Entrant, load: Load) -> ContestantJob | None:
    if RUNTIMES[entrant.runtime].opens == "model" and not load.source:
        return None
    return ContestantJob(
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
