"""`ci`: export, build, check, time, generate, judge: one configuration file, one report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rope_deploy.artifact import MANIFEST_NAME, TOLERANCES, Tolerances, refuse_folder, staging, withdraw
from rope_deploy.config import (
    RunConfig,
    build_options,
    check_options,
    engine_path,
    export_options,
    load_config,
    model_source,
    with_source,
)
from rope_deploy.errors import EnvironmentMissing, UsageError, VendorError
from rope_deploy.models import LoadedModel, load_model
from rope_deploy.options import CheckOptions, CiOptions
from rope_deploy.parity import Outcome
from rope_deploy.report import FILE_NAMES
from rope_deploy.report.recognise_report import may_replace
from rope_deploy.results.records import CheckRecord, EngineRecord, Report
from rope_deploy.runs.artifact_limits import report_limits
from rope_deploy.runs.artifacts import Artifact, load_artifacts
from rope_deploy.runs.baseline_gate import BaselineGate
from rope_deploy.runs.check import results_of, tokens_of_prose
from rope_deploy.runs.check_runtime import CheckPlan, check_or_fail
from rope_deploy.runs.export import export_styles
from rope_deploy.runs.gates import with_gates
from rope_deploy.runs.generate import generate_all, require_tokenizer
from rope_deploy.runs.graph_records import read_graph
from rope_deploy.runs.progress import Progress, silent
from rope_deploy.runs.report_files import refuse_foreign, write_report
from rope_deploy.runs.report_frame import Frame
from rope_deploy.runtime_registry import RUNTIMES
from rope_deploy.runtimes import Memoized, Runtime, open_torch
from rope_deploy.runtimes.onnx_runtime import require_providers
from rope_deploy.trt import build_engine, find_flavor, refuse_foreign_engine, require_flavor


def run_file(path: Path, options: CiOptions, *, progress: Progress) -> tuple[Report, dict[str, Path]]:
    """See `rope_deploy.api.run_ci`. Other runs are kept out of the output folder until its reports are written."""
    config = load_config(path) if options.source is None else with_source(load_config(path), options.source)
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
        report, _ = run_config(config, options, progress=progress)
        for file in files.values():
            write_report(report, file)
    return report, files


def _inside(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in folders)


def run_config(
    config: RunConfig, options: CiOptions = CiOptions(), *, progress: Progress = silent
) -> tuple[Report, Path]:
    """Carry out `config`; returns the report and the folder of its artifacts. Reports are written by the caller.

    A style that fails a check, an engine that the vendor refuses and a gate that does not hold end up in the report
    as failures. With `update_baseline` the latencies of this run are written to the [bench] baseline instead of being
    judged by it; of a run that failed nothing is kept. `options.source` is not used: `config` names the model.

    What keeps the run from being judged at all is raised: UsageError (the output folder exists and `force` is False,
    a baseline that does not fit), ModelError, UnmatchedRotation, MistakeFound, EnvironmentMissing.
    """
    folder = Path(config.output.folder)
    for style in config.export.styles:
        refuse_folder(folder / style, force=options.force)
    if config.build is not None:
        require_flavor(find_flavor(config.build.flavor))  # before minutes of work, not after
        refuse_foreign_engine(engine_path(config))
    source = model_source(config.model)
    # A packaged file is named by its package: where that is installed here says nothing to a reader elsewhere.
    name = f"{config.model.package}/{config.model.file}" if config.model.package else source
    if config.gates.provider:
        require_providers((config.gates.provider,))
    if options.update_baseline and config.bench and config.bench.baseline:
        refuse_foreign(Path(config.bench.baseline), "baseline")
    baseline_gate = BaselineGate(config, name, source, update=options.update_baseline)
    frame = Frame(config.title, name, "ci")
    progress(f"Loading {name}")
    loaded = load_model(source, dtype=config.model.dtype, trust_remote_code=config.model.trust_remote_code)
    if config.generate is not None:
        require_tokenizer(loaded)
    with _without_stale_reports(folder, config.export.styles):
        folders = {style: folder / style for style in config.export.styles}
        exports = export_styles(loaded, folders, export_options(config, force=options.force), progress=progress)
    artifacts = [artifact for path in folders.values() for artifact in load_artifacts(path)]
    engines = (_build(config, folder, options.force, progress),) if config.build is not None else ()
    outcomes = _check(config, artifacts, loaded, engines, progress)
    timed = baseline_gate.time(artifacts, engines, loaded, progress)
    generations = ()
    if config.generate is not None:
        generations = generate_all(
            artifacts, loaded, config.generate.prompts, config.generate.new_tokens, progress=progress
        )
    report = frame.report(
        exports=exports,
        graphs=tuple(read_graph(artifact, config.gates.provider) for artifact in artifacts),
        engines=engines,
        **results_of(outcomes),
        latencies=timed.latencies,
        contestants=timed.contestants,
        generations=generations,
        gates=baseline_gate.gates(timed, progress),
    )
    limits = {name: limit for name, limit in asdict(config.gates).items() if name != "max_slowdown"}
    return baseline_gate.with_baseline_written(with_gates(report, **limits)), folder


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
    """What tells the manifests there apart: another file, or another time of writing, is another manifest."""
    paths = [folder / style / MANIFEST_NAME for style in styles]
    return [(path.stat().st_ino, path.stat().st_mtime_ns) if path.is_file() else None for path in paths]


def _build(config: RunConfig, folder: Path, force: bool, progress: Progress) -> EngineRecord:
    """Build the engine; a refusal by the vendor is a failed record, so that the rest of the run still happens."""
    options, target = build_options(config, force=force), engine_path(config)
    progress(f"Building the engine {target.name}")
    try:
        return build_engine(folder / options.style, target, options)
    except VendorError as error:
        return EngineRecord(
            path=str(target),
            style=options.style,
            flavor=options.flavor,
            capabilities=options.capabilities,
            bytes=0,
            seconds=0.0,
            verdict="failed",
            message=str(error),
        )


def _check(
    config: RunConfig,
    artifacts: Sequence[Artifact],
    loaded: LoadedModel,
    engines: Sequence[EngineRecord],
    progress: Progress,
) -> list[Outcome]:
    wanted, standard = config.check, TOLERANCES[config.model.dtype]
    tolerances = Tolerances(
        logits=wanted.logits_tolerance or standard.logits, rotated=wanted.rotated_tolerance or standard.rotated
    )
    options = check_options(config)
    plan = CheckPlan(options, tokens_of_prose(loaded), tolerances)
    outcomes = [*_limits(artifacts, loaded, options)]
    with Memoized(open_torch(loaded)) as reference:
        for artifact in artifacts:
            for runtime in options.compared:
                if RUNTIMES[runtime].opens == "engine":
                    outcomes.extend(_check_engine(config, artifact, reference, runtime, engines, plan, progress))
                else:
                    outcomes.append(check_or_fail(artifact, reference, runtime, plan, progress=progress))
    return outcomes


def _limits(artifacts: Sequence[Artifact], loaded: LoadedModel, options: CheckOptions) -> Iterator[Outcome]:
    """The limits of artifacts; one fails unless the configuration allows it, by name or by its own max_position."""
    reach = max((spec.reach for spec in loaded.specs.values()), default=None)
    for artifact in artifacts:
        if limits := report_limits(artifact.manifest, reach, allowed=options.allow_limits, strict=True):
            yield Outcome((limits.record,), (), limits.diagnoses)


def _check_engine(
    config: RunConfig,
    artifact: Artifact,
    reference: Runtime,
    runtime: str,
    engines: Sequence[EngineRecord],
    plan: CheckPlan,
    progress: Progress,
) -> list[Outcome]:
    """Check the engine where it can run; where it cannot, record "not run" and why."""
    if config.build is None or artifact.manifest.style != config.build.style or engines[0].verdict != "passed":
        return []
    try:
        engine = Path(engines[0].path)
        return [check_or_fail(artifact, reference, runtime, plan, engine, progress=progress)]
    except EnvironmentMissing as error:
        record = CheckRecord(
            style=artifact.manifest.style,
            runtime=runtime,
            case="engine",
            detail="every case on the engine",
            verdict="skipped",
            worst=None,
            message=f"Not run: {error.asked}",
            seconds=0.0,
        )
        return [Outcome((record,), ())]
