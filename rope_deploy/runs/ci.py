"""`ci`: export, build, check, time, generate, judge: one configuration file, one report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rope_deploy.artifact import MANIFEST_NAME, TOLERANCES, Tolerances, refuse_folder, staging, withdraw
from rope_deploy.config import BuildSection, RunConfig, load_config, model_source, with_source
from rope_deploy.errors import EnvironmentMissing, UsageError, VendorError
from rope_deploy.models import LoadedModel, load_model
from rope_deploy.parity import Outcome
from rope_deploy.report import FILE_NAMES
from rope_deploy.report.recognise_report import may_replace
from rope_deploy.results.records import CheckRecord, EngineRecord, ExportRecord, Report
from rope_deploy.runs.artifact_limits import limits_of
from rope_deploy.runs.bench_contestants import Timed
from rope_deploy.runs.check import prose, results
from rope_deploy.runs.check_runtime import Questions, attempt
from rope_deploy.runs.export import export_styles
from rope_deploy.runs.gates import with_gates
from rope_deploy.runs.generate import generate_all, require_tokenizer
from rope_deploy.runs.graph_records import read_graph
from rope_deploy.runs.latency_gate import Slowdown
from rope_deploy.runs.open_artifact import Opened, open_artifacts
from rope_deploy.runs.report_files import refuse_foreign, write_report
from rope_deploy.runs.report_frame import Frame, Progress
from rope_deploy.runtimes import Memoized, Runtime, open_torch
from rope_deploy.runtimes.ort_placement import require_provider
from rope_deploy.trt import build_engine, find_flavor, refuse_foreign_engine, require


def run_file(
    path: Path, *, source: str | None, force: bool, update_baseline: bool, progress: Progress
) -> tuple[Report, dict[str, Path]]:
    """See `rope_deploy.api.run_ci`. Other runs are kept out of the output folder until its reports are written."""
    config = load_config(path) if source is None else with_source(load_config(path), source)
    folder = Path(config.output.folder)
    files = {name: folder / FILE_NAMES[name] for name in config.output.formats}
    for file in files.values():
        refuse_foreign(file, "ci")
    baseline = config.bench and config.bench.baseline
    if baseline and Path(baseline).resolve() in {file.resolve() for file in files.values()}:
        raise UsageError(
            f"The baseline {baseline} lies where this run writes its report.",
            todo='Give baseline = "FILE.json" of the [bench] table another name.',
        )
    if baseline and _inside(Path(baseline), [folder / style for style in config.export.styles]):
        raise UsageError(
            f"The baseline {baseline} lies in an artifact of this run, which would no longer be replaced.",
            todo='Give baseline = "FILE.json" of the [bench] table another place.',
        )
    with staging(folder):
        report, _ = run_config(config, force=force, update_baseline=update_baseline, progress=progress)
        for file in files.values():
            write_report(report, file)
    return report, files


def _inside(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in folders)


def run_config(
    config: RunConfig, *, force: bool = False, update_baseline: bool = False, progress: Progress = lambda step: None
) -> tuple[Report, Path]:
    """Carry out `config`; returns the report and the folder of its artifacts. Reports are written by the caller.

    A style that fails a check, an engine that the vendor refuses and a gate that does not hold end up in the report
    as failures. `update_baseline` writes the latencies of this run to the [bench] baseline instead of judging them by
    it; of a run that failed nothing is kept.

    What keeps the run from being judged at all is raised: UsageError (the output folder exists and `force` is False,
    a baseline that does not fit), ModelError, UnmatchedRotation, MistakeFound, EnvironmentMissing.
    """
    folder = Path(config.output.folder)
    for style in config.export.styles:
        refuse_folder(folder / style, force=force)
    if config.build is not None:
        require(find_flavor(config.build.flavor))  # before minutes of work, not after
        refuse_foreign_engine(engine_path(config.build, folder))
    source = model_source(config.model)
    # A packaged file is named by its package: where that is installed here says nothing to a reader elsewhere.
    named = f"{config.model.package}/{config.model.file}" if config.model.package else source
    if config.gates.provider:
        require_provider(config.gates.provider)
    if update_baseline and config.bench and config.bench.baseline:
        refuse_foreign(Path(config.bench.baseline), "baseline")
    slowdown = Slowdown(config, named, source, update=update_baseline)
    frame = Frame(config.title, named, "ci")
    progress(f"Loading {named}")
    loaded = load_model(source, dtype=config.model.dtype, trust_remote_code=config.model.trust_remote_code)
    if config.generate is not None:
        require_tokenizer(loaded)
    with _without_stale_reports(folder, config.export.styles):
        exports = _export(config, loaded, folder, force, progress)
    artifacts = [opened for style in config.export.styles for opened in open_artifacts(folder / style)]
    engines = (_build(config.build, folder, force, progress),) if config.build is not None else ()
    outcomes = _check(config, artifacts, loaded, engines, progress)
    timed = slowdown.time(artifacts, engines, loaded, progress) if config.bench is not None else Timed((), ())
    generations = ()
    if config.generate is not None:
        generations = generate_all(
            artifacts, loaded, config.generate.prompts, config.generate.new_tokens, progress=progress
        )
    report = frame.report(
        exports=exports,
        graphs=tuple(read_graph(opened, config.gates.provider) for opened in artifacts),
        engines=engines,
        **results(outcomes),
        latencies=timed.latencies,
        contestants=timed.contestants,
        generations=generations,
        gates=slowdown.gates(timed, progress),
    )
    limits = {name: limit for name, limit in asdict(config.gates).items() if name != "max_slowdown"}
    return slowdown.kept(with_gates(report, **limits)), folder


@contextmanager
def _without_stale_reports(folder: Path, styles: Sequence[str]) -> Iterator[None]:
    """Remove the reports of an earlier run once an artifact that they judged has been replaced.

    A run that is interrupted later would leave them beside artifacts that nobody has judged.
    """
    before = _manifests(folder, styles)
    try:
        yield
    finally:
        if _manifests(folder, styles) != before:
            for name in FILE_NAMES.values():
                if (folder / name).is_file() and may_replace(folder / name, "ci"):
                    withdraw(folder / name)


def _manifests(folder: Path, styles: Sequence[str]) -> list[tuple[int, int] | None]:
    """Which manifests lie there: another file, or another time of writing, is another manifest."""
    paths = [folder / style / MANIFEST_NAME for style in styles]
    return [(path.stat().st_ino, path.stat().st_mtime_ns) if path.is_file() else None for path in paths]


def _export(
    config: RunConfig, loaded: LoadedModel, folder: Path, force: bool, progress: Progress
) -> tuple[ExportRecord, ...]:
    wanted = config.export
    return export_styles(
        loaded,
        {style: folder / style for style in wanted.styles},
        opset=wanted.opset,
        fused_attention=wanted.fused_attention,
        force=force,
        accept=wanted.accept,
        cache=wanted.cache,
        max_position=wanted.max_position,
        angles=wanted.angles,
        allow_unmatched=wanted.allow_unmatched,
        progress=progress,
    )


def _build(wanted: BuildSection, folder: Path, force: bool, progress: Progress) -> EngineRecord:
    """The engine's record; a refusal by the vendor is a failed one, so that the rest of the run still happens."""
    target = engine_path(wanted, folder)
    progress(f"Building the engine {target.name}")
    try:
        return build_engine(
            folder / wanted.style,
            target,
            flavor=wanted.flavor,
            capabilities=wanted.compute_capabilities,
            profiles=tuple(f"{name}={a}:{b}:{c}" for name, (a, b, c) in wanted.profiles.items()),
            force=force,
        )
    except VendorError as error:
        return EngineRecord(
            path=str(target),
            style=wanted.style,
            flavor=wanted.flavor,
            capabilities=wanted.compute_capabilities,
            bytes=0,
            seconds=0.0,
            verdict="failed",
            message=str(error),
        )


def engine_path(wanted: BuildSection, folder: Path) -> Path:
    return folder / f"{wanted.style}.{wanted.flavor}.engine"


def _check(config: RunConfig, artifacts, loaded, engines, progress: Progress) -> list[Outcome]:
    wanted, standard = config.check, TOLERANCES[config.model.dtype]
    tolerances = Tolerances(
        logits=wanted.logits_tolerance or standard.logits, rotated=wanted.rotated_tolerance or standard.rotated
    )
    questions = Questions(wanted.set, (), wanted.seed, tolerances, prose(loaded), config.export.accept)
    outcomes = [*_limited(config, artifacts, loaded)]
    with Memoized(open_torch(loaded)) as reference:
        for opened in artifacts:
            for runtime in wanted.runtimes:
                if runtime == "trt":
                    outcomes.extend(_check_engine(config, opened, reference, engines, questions, progress))
                else:
                    outcomes.append(attempt(opened, reference, runtime, questions, progress=progress))
    return outcomes


def _limited(config: RunConfig, artifacts: Sequence[Opened], loaded: LoadedModel) -> Iterator[Outcome]:
    """A limit fails unless the configuration allows it: by name, or by asking for so many positions itself."""
    allowed = {*config.check.allow_limits, *(("max_position",) if config.export.max_position else ())}
    reach = max((spec.reach for spec in loaded.specs.values()), default=None)
    for opened in artifacts:
        if limited := limits_of(opened.manifest, reach, allowed=allowed, strict=True):
            yield Outcome((limited.record,), (), limited.diagnoses)


def _check_engine(
    config: RunConfig, opened: Opened, reference: Runtime, engines, questions: Questions, progress: Progress
) -> list[Outcome]:
    """The engine against PyTorch where it can run; "not run" and why where it cannot."""
    if config.build is None or opened.manifest.style != config.build.style or engines[0].verdict != "passed":
        return []
    try:
        engine = Path(engines[0].path)
        return [attempt(opened, reference, "trt", questions, engine, progress=progress)]
    except EnvironmentMissing as error:
        record = CheckRecord(
            style=opened.manifest.style,
            runtime="trt",
            case="engine",
            detail="every case on the engine",
            verdict="skipped",
            worst=None,
            message=f"Not run: {error.asked}",
            seconds=0.0,
        )
        return [Outcome((record,), ())]
