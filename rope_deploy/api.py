"""What rope_deploy does, as functions. The command line does its work through them.

Each function makes the options of its command from its keyword arguments, whose meaning and defaults
`rope_deploy.options` states, and hands them to one function of `runs`. Heavy packages are imported by the function that
needs them: importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rope_deploy.childprocess import Limits, call
from rope_deploy.options import (
    Angles,
    AuditOptions,
    BenchOptions,
    BuildOptions,
    CheckOptions,
    CiOptions,
    ExportOptions,
    OtherMachine,
    RewriteOptions,
    Unsettled,
)
from rope_deploy.runs.progress import Progress, silent

if TYPE_CHECKING:
    from rope_deploy.doctor import Examination
    from rope_deploy.models import LoadedModel
    from rope_deploy.results.code_pages import Page
    from rope_deploy.results.records import EngineRecord, ExportRecord, Report
    from rope_deploy.runs.inspect import Inspection
    from rope_deploy.trt import Progress as BuildProgress
    from rope_deploy.trt.plugin import PluginLibrary

__all__ = [
    "audit", "bench", "build", "check", "doctor", "explain", "export", "inspect", "load", "plugin_build", "plugin_info",
    "rewrite", "run_ci", "write_report",
]  # fmt: skip


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def load(source: str, *, dtype: str = "float32", trust_remote_code: bool = False) -> LoadedModel:
    """Load a model: a Hugging Face folder, a .gguf file, a hub name, or package.module:factory. Raises ModelError."""
    from rope_deploy.models import load_model

    return load_model(source, dtype=dtype, trust_remote_code=trust_remote_code)


def export(
    source: str | LoadedModel,
    folder: str | Path,
    *,
    styles: Sequence[str] = ExportOptions.styles,
    dtype: str = ExportOptions.dtype,
    opset: int | None = ExportOptions.opset,
    max_position: int | None = ExportOptions.max_position,
    angles: Angles = ExportOptions.angles,
    example: str | Path | None = ExportOptions.example,
    cache: bool = ExportOptions.cache,
    fused_attention: bool = ExportOptions.fused_attention,
    allow_unmatched: bool = ExportOptions.allow_unmatched,
    accept: Sequence[str] = ExportOptions.accept,
    trust_remote_code: bool = ExportOptions.trust_remote_code,
    force: bool = ExportOptions.force,
    progress: Progress = silent,
) -> tuple[ExportRecord, ...]:
    """Export a model to ONNX in one or more styles, tracing it once.

    One style is written to `folder` itself, several each to a folder of its name inside it, each whole or not at all.
    `force` replaces artifacts, and nothing that their manifests do not list. `max_position` is how many rows the tables
    have (default: the model's); `angles` "float64" computes them in fp64; `example`, an .npz file, has the arguments of
    a tower (default: made from its configuration). `accept`: codes of mistakes, such as "RD301", with which it goes on
    although the model does not follow its configuration.

    Raises UsageError, ModelError, UnmatchedRotation (a rotation not understood), MistakeFound (a mistake that was not
    accepted), EnvironmentMissing (a full disk).
    """
    options = ExportOptions(
        styles=tuple(styles),
        dtype=dtype,
        opset=opset,
        max_position=max_position,
        angles=angles,
        example=_path(example),
        cache=cache,
        fused_attention=fused_attention,
        allow_unmatched=allow_unmatched,
        accept=tuple(accept),
        trust_remote_code=trust_remote_code,
        force=force,
    )
    from rope_deploy.runs.export import export_model

    return export_model(source, Path(folder), options, progress=progress)


def rewrite(
    source: str | Path,
    target: str | Path,
    style: str,
    *,
    config: str | Path | None = RewriteOptions.config,
    angles: Angles = RewriteOptions.angles,
    opset: int | None = RewriteOptions.opset,
    max_position: int | None = RewriteOptions.max_position,
    allow_unmatched: bool = RewriteOptions.allow_unmatched,
    accept: Sequence[str] = RewriteOptions.accept,
    run: bool = RewriteOptions.run,
    force: bool = RewriteOptions.force,
    progress: Progress = silent,
) -> ExportRecord:
    """Rewrite the rotations of an ONNX file that somebody else exported to `style`; the rest stays what it was.

    `target` gets the graph, `target`.HASH.data its weights. `config` is the model's config.json (or its folder): its
    rule is compared with what the file computes, and its length sizes the tables where nothing else does. `angles`
    "float64" computes the tables from it in fp64. `accept`: codes of mistakes with which it goes on. `run`: original
    and result are run in ONNX Runtime before `target` is put in place; the record's `ran` says what came of it.

    Raises UsageError (what is asked does not fit the file, or `target` exists without `force`), ConfigError (a faulty
    config.json), UnmatchedRotation (a rotation was not understood), MistakeFound (a mistake that was not accepted),
    CheckFailed (the result does not answer as the original does), EnvironmentMissing (a full disk).
    """
    options = RewriteOptions(
        style=style,
        config=_path(config),
        angles=angles,
        opset=opset,
        max_position=max_position,
        allow_unmatched=allow_unmatched,
        accept=tuple(accept),
        run=run,
        force=force,
    )
    return call(
        "rope_deploy.runs.rewrite:rewrite_judged",
        Path(source),
        Path(target),
        options,
        doing=f"Rewriting {source}",
        limits=Limits.of_file(Path(source)),
        progress=progress,
    )


def check(
    folder: str | Path,
    *,
    runtimes: Sequence[str] = CheckOptions.runtimes,
    model: str | LoadedModel | None = CheckOptions.model,
    engine: str | Path | None = CheckOptions.engine,
    cases: Sequence[str] = CheckOptions.cases,
    quick: bool = CheckOptions.quick,
    seed: int = CheckOptions.seed,
    ignore_hashes: bool = CheckOptions.ignore_hashes,
    reference: bool = CheckOptions.reference,
    isolated: bool = CheckOptions.isolated,
    trust_remote_code: bool = CheckOptions.trust_remote_code,
    allow_limits: Sequence[str] = CheckOptions.allow_limits,
    accept: Sequence[str] = CheckOptions.accept,
    progress: Progress = silent,
) -> Report:
    """Compare an artifact (or each one in a folder of artifacts) with PyTorch, case by case.

    The verdict is "failed" if any case failed; nothing is raised for that. `model` says where the PyTorch model is if
    it has moved; `cases` picks some by id, `quick` the few that still meet every mistake that has a name. `reference`
    False judges the rotations by the manifest's rules alone and loads no PyTorch. Each other runtime has a process of
    its own, so that its crash is a failed case; `isolated` False keeps it in this one. `allow_limits`: limits that are
    known of, such as "tokens" (RD608); `accept` as at the export. Tolerances are the dtype's, whatever is stated.

    Raises UsageError (no artifact, changed files, an unknown runtime or case), ModelError, EnvironmentMissing.
    """
    options = CheckOptions(
        runtimes=tuple(runtimes),
        model=model,
        engine=_path(engine),
        cases=tuple(cases),
        quick=quick,
        seed=seed,
        ignore_hashes=ignore_hashes,
        reference=reference,
        isolated=isolated,
        trust_remote_code=trust_remote_code,
        allow_limits=tuple(allow_limits),
        accept=tuple(accept),
    )
    from rope_deploy.runs.check import check_artifacts

    return check_artifacts(Path(folder), options, progress=progress)


def explain(code: str) -> Page:
    """What a diagnosis means: its title, what the mistake is, why it happens, an example, and what to do.

    Raises UsageError for a code there is not, with the nearest ones.
    """
    from rope_deploy.results.code_pages import page_of

    return page_of(code)


def audit(
    subject: str | Path,
    *,
    against: str | Path | None = AuditOptions.against,
    max_position: int | None = AuditOptions.max_position,
    fail_on: Sequence[str] = AuditOptions.fail_on,
    ignore_hashes: bool = AuditOptions.ignore_hashes,
    progress: Progress = silent,
) -> Report:
    """Hold what an .onnx file by any exporter stores and computes against its model's configuration.

    Nothing is run; of the weights only tables and small constants are read. cos and sin are recomputed at every row of
    a stored table, or at thousands of positions of a computed one. `against` is a config.json or its folder. Without it
    an artifact is audited against its own manifest and configuration, a file against the config.json beside it, and,
    where there is none, against what holds for every rotation. `max_position`: positions that the tables must serve, by
    default the configuration's. `fail_on`: codes of hazards (such as "RD605", Cos and Sin at run time) that count as
    mistakes instead of notes.

    Raises UsageError (not ONNX, no rotations, an unknown rope type or code), ConfigError, ModelError.
    """
    options = AuditOptions(
        against=_path(against),
        max_position=max_position,
        fail_on=tuple(fail_on),
        ignore_hashes=ignore_hashes,
    )
    return call(
        "rope_deploy.runs.audit:audit_path",
        Path(subject),
        options,
        doing=f"Auditing {subject}",
        limits=Limits.of_file(Path(subject)),
        progress=progress,
    )


def bench(
    folder: str | Path,
    *,
    runtimes: Sequence[str] = BenchOptions.runtimes,
    model: str | LoadedModel | None = BenchOptions.model,
    engine: str | Path | None = BenchOptions.engine,
    prompt: int | Sequence[int] = BenchOptions.prompt,
    new: int = BenchOptions.new,
    rounds: int = BenchOptions.rounds,
    threads: int | None = BenchOptions.threads,
    profile: bool = BenchOptions.profile,
    baseline: str | Path | None = BenchOptions.baseline,
    max_slowdown: float = BenchOptions.max_slowdown,
    other_machine: OtherMachine = BenchOptions.other_machine,
    unsettled: Unsettled = BenchOptions.unsettled,
    trust_remote_code: bool = BenchOptions.trust_remote_code,
    progress: Progress = silent,
) -> Report:
    """Time a prefill of each length in `prompt` and, per token, decoding `new` after it, in interleaved rounds.

    Ratios refer to PyTorch, or to the first artifact. `unsettled` is what becomes of one that load keeps from being
    judged. Raises as `check` does, UsageError for an unfit `baseline`.
    """
    options = BenchOptions(
        runtimes=tuple(runtimes),
        model=model,
        engine=_path(engine),
        prompt=(prompt,) if isinstance(prompt, int) else tuple(prompt),
        new=new,
        rounds=rounds,
        threads=threads,
        profile=profile,
        baseline=_path(baseline),
        max_slowdown=max_slowdown,
        other_machine=other_machine,
        unsettled=unsettled,
        trust_remote_code=trust_remote_code,
    )
    from rope_deploy.runs.bench import bench_artifacts

    return bench_artifacts(Path(folder), options, progress=progress)


def build(
    source: str | Path,
    target: str | Path,
    *,
    style: str | None = BuildOptions.style,
    flavor: str | None = BuildOptions.flavor,
    capabilities: Sequence[str] = BuildOptions.capabilities,
    profiles: Sequence[str] = BuildOptions.profiles,
    plugin: str | Path | None = BuildOptions.plugin,
    timing_cache: str | Path | None = BuildOptions.timing_cache,
    taps: bool = BuildOptions.taps,
    accept: Sequence[str] = BuildOptions.accept,
    force: bool = BuildOptions.force,
    progress: Callable[[BuildProgress], None] | None = None,
) -> EngineRecord:
    """Compile an artifact or ONNX file into a TensorRT engine, with a manifest beside it.

    With a `style` a folder of artifacts is taken too, or a model, exported to `target`.artifact; "auto" is the style
    that suits the flavour best, the next where that is refused. `flavor` "rtx" builds without a GPU, "tensorrt" needs
    one; None takes what fits this machine. `profiles` are texts such as "batch=1:1:8"; `accept` is that of `export`.

    Raises UsageError, EnvironmentMissing (no flavour or GPU), VendorError (GraphRefused names nodes), as `export` does.
    """
    options = BuildOptions(
        style=style,
        flavor=flavor,
        capabilities=tuple(capabilities), profiles=tuple(profiles),
        plugin=_path(plugin), timing_cache=_path(timing_cache),
        taps=taps, accept=tuple(accept), force=force,
    )  # fmt: skip
    from rope_deploy.runs.build import build_styled

    return build_styled(Path(source), Path(target), options, progress=progress)


def plugin_build(
    target: str | Path,
    *,
    architectures: Sequence[str] = (),
    tensorrt_root: str | Path | None = None,
    build_folder: str | Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> PluginLibrary:
    """Compile the TensorRT plugin library, without a GPU, for compute capabilities such as "8.9", by default for all.

    Raises UsageError (`target` exists without `force`, an unknown architecture, no headers in `tensorrt_root`),
    EnvironmentMissing (naming each absent tool and the command that installs it), VendorError (it does not compile).
    """
    from rope_deploy.trt.plugin import build_plugin

    return build_plugin(
        Path(target),
        architectures=tuple(architectures),
        tensorrt_root=_path(tensorrt_root),
        build_folder=_path(build_folder),
        force=force,
        progress=progress,
    )


def plugin_info(library: str | Path) -> PluginLibrary:
    """What a plugin library says about itself; it is read, not loaded. Raises UsageError if it is none of ours."""
    from rope_deploy.trt.plugin import read_library

    return read_library(Path(library))


def run_ci(
    config: str | Path,
    *,
    source: str | None = CiOptions.source,
    force: bool = CiOptions.force,
    update_baseline: bool = CiOptions.update_baseline,
    progress: Progress = silent,
) -> tuple[Report, dict[str, Path]]:
    """Carry out a configuration file: export, build, check, bench, generate, judge, and write the reports.

    `source` replaces the model named in the file; `update_baseline` writes its [bench] baseline instead of judging by
    it, unless the run fails. Returns the report and where its formats were written. A failed gate is no exception.

    Raises ConfigError with every fault of the file, UsageError for an unfit baseline, and what the single steps raise.
    """
    options = CiOptions(source=source, force=force, update_baseline=update_baseline)
    from rope_deploy.runs.ci import run_file

    return run_file(Path(config), options, progress=progress)


def write_report(report: Report, path: str | Path) -> None:
    """Write `report` to `path`, whose ending chooses the format: .json, .xml (JUnit), .sarif, .md or .html.

    Raises UsageError for another ending or a file that is no report of this command, EnvironmentMissing (a full disk).
    """
    from rope_deploy.runs import report_files

    report_files.write_report(report, Path(path))


def inspect(subject: str, *, trust_remote_code: bool = False) -> Inspection:
    """What rotation an artifact, an .onnx file, an engine or a model holds, where, in which form; and its hazards.

    Nothing is run. Of a graph's weights only tables and small constants are read; the files of an artifact or engine
    are hashed, to say whether they changed. Raises UsageError or ModelError if `subject` is none of these.
    """
    from rope_deploy.runs.inspect import inspect_subject

    return inspect_subject(subject, trust_remote_code=trust_remote_code)


def doctor(*, progress: Callable[[Examination], None] = silent) -> tuple[Examination, ...]:
    """What is installed, what of it works, and what to install. Never raises for what it finds."""
    from rope_deploy.doctor import examine_all

    return examine_all(progress)
