"""The contestants of a benchmark: planned, opened side by side, timed in turn, and then profiled one by one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
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
from rope_deploy.options import BenchOptions
from rope_deploy.results.records import ContestantRecord, LatencyRecord
from rope_deploy.runs.artifacts import Artifact
from rope_deploy.runs.baseline import Key
from rope_deploy.runs.progress import Progress
from rope_deploy.runtime_registry import OPTIONAL, RUNTIMES
from rope_deploy.runtimes import Runtime, Target, open_runtime

REHEARSE = "rope_deploy.bench.contestant_job:rehearse"


@dataclass(frozen=True)
class PlannedContestant:
    """One who is to take part: a runtime, and the artifact whose inputs it takes; PyTorch has no style."""

    runtime: str
    artifact: Artifact
    engine: Path | None = None

    @property
    def style(self) -> str:
        return "" if RUNTIMES[self.runtime].opens == "model" else self.artifact.manifest.style

    @property
    def label(self) -> str:
        return f"{self.runtime}/{self.style}" if self.style else self.runtime


@dataclass(frozen=True)
class BenchPlan:
    """What every contestant runs. `source` is where another process finds the PyTorch model, "" if nowhere.

    `processor_ratios`: the ratios of processor times are taken too; a baseline needs them on a machine that others use.
    """

    options: BenchOptions
    source: str = ""
    processor_ratios: bool = False


@dataclass(frozen=True)
class Timed:
    """What a benchmark measured, who took part in it, and what of it could not be measured."""

    latencies: tuple[LatencyRecord, ...] = ()
    contestants: tuple[ContestantRecord, ...] = ()
    notes: tuple[str, ...] = ()


def plan_contestants(
    artifacts: Sequence[Artifact], runtimes: Sequence[str], engine: Path | None = None, engine_style: str = ""
) -> tuple[PlannedContestant, ...]:
    """PyTorch first, to which ratios then refer; then each artifact in ONNX Runtime; then the engine.

    Raises UsageError if it is not clear which artifact the engine was built from.
    """
    planned: list[PlannedContestant] = []
    for kind in (one for one in RUNTIMES.values() if one.name in runtimes):
        used = artifacts if kind.opens == "artifact" else artifacts[:1]
        if kind.opens == "engine":
            used = [artifact for artifact in artifacts if engine_style in ("", artifact.manifest.style)]
            if len(used) != 1:
                raise UsageError(
                    "An engine is timed with the one artifact it was built from.", todo="Name that folder."
                )
        planned += [PlannedContestant(kind.name, one, engine if kind.opens == "engine" else None) for one in used]
    return tuple(planned)


def ratio_keys(contestants: Sequence[PlannedContestant], plan: BenchPlan) -> tuple[Key, ...]:
    """The ratios that a baseline must have: of every contestant but the reference, on every workload."""
    options = plan.options
    new = options.new if contestants[0].artifact.manifest.cache else 0
    names = [workload.name for workload in workloads(options.prompt, new)]
    return tuple((one.runtime, one.style, name) for name in names for one in contestants[1:])


def time_all(
    contestants: Sequence[PlannedContestant], loaded: LoadedModel | None, plan: BenchPlan, progress: Progress
) -> Timed:
    """Open everything at once, with the same number of threads each, and time them in turn.

    An optional runtime that cannot run here is left out, and its record says why. If nobody is left, its error is
    raised.
    """
    options = plan.options
    for planned in contestants:
        require_fit(planned.label, planned.artifact.manifest, options.prompt, options.new)
    with ExitStack() as stack:
        opened: list[Contestant] = []
        records: list[ContestantRecord] = []
        errors: list[EnvironmentMissing | VendorError] = []
        for planned in contestants:
            try:
                opened.append(_enter(stack, planned, loaded, plan, progress))
                records.append(ContestantRecord(planned.runtime, planned.style, "passed"))
            except (EnvironmentMissing, VendorError) as error:
                if planned.runtime not in OPTIONAL:
                    raise
                errors.append(error)
                records.append(ContestantRecord(planned.runtime, planned.style, "skipped", _on_one_line(error)))
        if not opened:
            raise errors[0]
        latencies = measure(
            opened,
            prompts=options.prompt,
            new=options.new if contestants[0].artifact.manifest.cache else 0,
            rounds=options.rounds,
            reference=opened[0].label,
            threads=options.threads,
            progress=lambda workload, done, total: progress(f"Timing {workload}: round {done} of {total}"),
        )
    notes: list[str] = []
    if plan.processor_ratios:
        present = {(one.runtime, one.style) for one in records if one.verdict == "passed"}
        jobs = [_job(one, plan) for one in contestants if (one.runtime, one.style) in present]
        if None not in jobs:
            progress("Timing with one thread in a fresh process")
            latencies = with_processor_ratios(latencies, Comparison(tuple(jobs), options.rounds), notes.append)
    timed = Timed(latencies, tuple(records), tuple(notes))
    return _profile(contestants, timed, plan, progress) if options.profile else timed


def measure_ratios_again(
    contestants: Sequence[PlannedContestant],
    plan: BenchPlan,
    wanted: Collection[Key],
    progress: Progress,
    note: Callable[[str], None],
) -> tuple[LatencyRecord, ...]:
    """The ratios `wanted` once more, in a fresh process; if that fails, `note` is told why.

    () also where PyTorch was handed over loaded, without a name.
    """
    options, reference = plan.options, contestants[0]
    others = [one for one in contestants[1:] if any((one.runtime, one.style) == key[:2] for key in wanted)]
    jobs = [_job(one, plan) for one in (reference, *others)]
    if not others or None in jobs:
        return ()
    names = {key[2] for key in wanted}
    lengths = tuple(n for n in options.prompt if names & {one.name for one in workloads((n,), options.new)})
    new = options.new if names - {one.name for one in workloads(lengths, 0)} else 0
    progress(f"Measuring again in a fresh process: {', '.join(sorted(names))}")
    rerun = Comparison(tuple(replace(job, prompts=lengths, new=new) for job in jobs), options.rounds)
    return with_processor_ratios(measure_in_fresh_process(rerun, note), rerun, note)


def _enter(
    stack: ExitStack, planned: PlannedContestant, loaded: LoadedModel | None, plan: BenchPlan, progress: Progress
) -> Contestant:
    """Open a contestant. One that compiles also runs each workload once, since that is when it does so or fails to."""
    progress(f"{'Compiling' if RUNTIMES[planned.runtime].compiles else 'Opening'} {planned.label}")
    manifest = with_vocabulary(planned.artifact.manifest, planned.artifact.folder)
    runtime = stack.enter_context(_open(planned, loaded, plan))
    if RUNTIMES[planned.runtime].compiles:
        _run_once(runtime, manifest, plan)
    return Contestant(runtime, manifest, planned.style)


def _open(planned: PlannedContestant, loaded: LoadedModel | None, plan: BenchPlan) -> Runtime:
    opens, artifact = RUNTIMES[planned.runtime].opens, planned.artifact
    if opens == "artifact" or (opens == "engine" and planned.engine is not None):
        _rehearse(planned, plan)
    target = Target(artifact.folder, planned.engine, loaded, artifact.manifest, threads=plan.options.threads)
    return open_runtime(planned.runtime, target)


def _rehearse(planned: PlannedContestant, plan: BenchPlan) -> None:
    """Make the calls that are timed here in another process first: the file may crash its runtime."""
    doing = f"Trying {planned.label} of {planned.artifact.folder}"
    call(REHEARSE, _job(planned, plan), doing=doing, limits=WITHOUT_LIMITS)


def _run_once(runtime: Runtime, manifest: Manifest, plan: BenchPlan) -> None:
    for workload in workloads(plan.options.prompt[:1], plan.options.new if manifest.cache else 0):
        runtime.run(random_feeds(manifest, workload.tokens, workload.past) | initial_past(runtime, manifest, workload))


def _profile(contestants: Sequence[PlannedContestant], timed: Timed, plan: BenchPlan, progress: Progress) -> Timed:
    """Add what each contestant needs by itself: memory, and the rotation's share of its time."""
    records, shares = [], {}
    for planned, record in zip(contestants, timed.contestants, strict=True):
        if record.verdict == "passed":
            progress(f"Profiling {planned.label}")
            job = _job(planned, plan)
            found = resource_use_in_child(job) if job else None
            note = (
                found.note if found else "Not measured: the model was handed over loaded, and has no name to load by."
            )
            of_this = {(*_who(record), name): share for name, share in (found.shares if found else {}).items()}
            shares |= of_this
            record = replace(
                record,
                note=note,
                **{
                    name: getattr(found, name) if found else None
                    for name in ("peak_bytes", "resident_bytes", "before_bytes", "arena_bytes")
                },
            )
        records.append(record)
    latencies = (replace(one, rotation_share=shares.get((*_who(one), one.workload))) for one in timed.latencies)
    return replace(timed, latencies=tuple(latencies), contestants=tuple(records))


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _who(record: LatencyRecord | ContestantRecord) -> tuple[str, str]:
    return record.runtime, record.style


def _job(planned: PlannedContestant, plan: BenchPlan) -> ContestantJob | None:
    """The work of one contestant for a process of its own; None where that process could not load the model."""
    if RUNTIMES[planned.runtime].opens == "model" and not plan.source:
        return None
    return ContestantJob(
        runtime=planned.runtime,
        folder=str(planned.artifact.folder),
        prompts=plan.options.prompt,
        new=plan.options.new,
        threads=plan.options.threads,
        source=plan.source,
        dtype=planned.artifact.manifest.dtype,
        trust_remote_code=plan.options.trust_remote_code,
        engine=str(planned.engine or ""),
    )
