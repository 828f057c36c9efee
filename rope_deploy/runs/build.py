"""`build`: an engine of one artifact or file, or of the style that suits the target best, from artifacts or a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rope_deploy.artifact import MODEL_NAME, load_manifest, new_folder, refuse_existing
from rope_deploy.artifact.subject import Kind, Subject, artifact_folders, is_artifact, subject_of
from rope_deploy.errors import GraphRefused, UsageError, VendorError
from rope_deploy.options import AUTO, BuildOptions, ExportOptions
from rope_deploy.results.codes import require_codes
from rope_deploy.results.records import EngineRecord
from rope_deploy.trt import Progress, StyleChoice, build_engine, find_flavor, preferred_styles, require_flavor

LONGEST_REASON = 300  # characters of a refusal that are repeated beside another
ShowProgress = Callable[[Progress], None]
FolderOfStyle = Callable[[str], Path]


def build_styled(
    source: Path, target: Path, options: BuildOptions, *, progress: ShowProgress | None = None
) -> EngineRecord:
    """Build the engine `target` from `source`; see `rope_deploy.api.build`.

    `source` is an artifact, a folder of artifacts, an ONNX file (which has no style: it is built as it is), or a model
    as `load_model` takes it, which is exported to `target`.artifact. Without a style it is one artifact or file, as it
    is; style "auto" takes the first of `trt.preferred_styles` that the flavour accepts. What was chosen and why, and
    what was refused before it, is in the record's message and the engine's manifest.

    Raises what `build_engine` raises, what an export raises for a model, UsageError for a style that is not there,
    and GraphRefused, naming each style's reason, if none can be built.
    """
    build = _Build(options, target, progress)
    require_codes(options.accept)
    if options.style is None:
        _require_nothing_accepted(source, options, "--style is not given")
        return build(source)
    flavor = find_flavor(options.flavor)
    choices = preferred_styles(flavor, plugin=options.plugin is not None)
    choices = tuple(choice for choice in choices if options.style in (AUTO, choice.style))
    subject = subject_of(source)
    if subject.kind is Kind.GRAPH:
        _require_nothing_accepted(source, options, "this is an ONNX file")
        if options.style != AUTO:
            raise UsageError(
                f"{source} has no style: it was not exported by rope-deploy.",
                todo="Leave --style out, or bring its rotations to that style with `rope-deploy rewrite`.",
            )
        return build(source)
    artifacts = _artifacts_by_style(subject)
    if artifacts:
        _require_nothing_accepted(source, options, "this is exported already")
        if not (choices := tuple(choice for choice in choices if choice.style in artifacts)):
            raise UsageError(
                f"{source} has no artifact of style {options.style}.",
                exists=f"It has: {', '.join(artifacts)}.",
                todo="Give --style auto to take the best of these, or export the style.",
            )
        return _build_first_accepted(choices, artifacts.__getitem__, source, build)
    require_flavor(flavor)  # before minutes of export, not after
    refuse_existing(target, force=options.force)
    with _export_on_demand(str(source), target, options, progress or (lambda step: None)) as folder_of:
        build = replace(build, graph_name=artifact_of(target) / MODEL_NAME)
        record = _build_first_accepted(choices, folder_of, source, build)
    if findings := load_manifest(artifact_of(target)).findings:
        notes = f"{len(findings)} note(s) of the export, the first: {findings[0].message}"
        record = replace(record, message=f"{record.message}; {notes}")
    return record


def artifact_of(target: Path) -> Path:
    """Where the artifact lies that a model is exported to for the engine `target`."""
    return target.with_name(f"{target.name}.artifact")


def _require_nothing_accepted(source: Path, options: BuildOptions, why: str) -> None:
    """Raise UsageError if a mistake is to be accepted and nothing is exported, where one could be met."""
    if options.accept:
        raise UsageError(
            f"There is nothing to accept in {source}: {why}.",
            exists="--accept is for the export of a MODEL, which `build` does with --style.",
            todo="Leave --accept out.",
        )


def _artifacts_by_style(subject: Subject) -> Mapping[str, Path]:
    """Folders by style; {} if `subject` is no artifact and holds none. Raises UsageError for two of one style."""
    found: dict[str, Path] = {}
    for folder in artifact_folders(subject.artifact or subject.path):
        if is_artifact(folder):
            style = load_manifest(folder).style
            if style in found:
                raise UsageError(
                    f"{subject.path} has two artifacts of style {style}: {found[style].name} and {folder.name}.",
                    todo="Give the one to build.",
                )
            found[style] = folder
    return found


@contextmanager
def _export_on_demand(
    source: str, target: Path, options: BuildOptions, progress: ShowProgress
) -> Iterator[FolderOfStyle]:
    """Yield a function that writes a style of a model and returns its folder. The model is traced only once.

    The style written last ends up beside `target`. Until its engine is built it lies in a hidden folder: an artifact
    that was there before stays if none can be built.
    """
    from rope_deploy.export import write
    from rope_deploy.models import load_model
    from rope_deploy.runs.export import prepare_judged

    def show_step(step: str) -> None:
        progress(Progress(step))

    with new_folder(artifact_of(target), force=options.force) as unfinished:
        show_step(f"Loading {source}")
        prepared = prepare_judged(load_model(source), ExportOptions(accept=options.accept), progress=show_step)
        written = unfinished

        def write_style(style: str) -> Path:
            nonlocal written
            show_step(f"Writing style {style}")
            written = unfinished.with_name(f"{unfinished.name}.styles") / style
            write(prepared, written, style)
            return written

        yield write_style
        written.replace(unfinished)


@dataclass(frozen=True)
class _Build:
    """`build_engine` with everything but the graph and the reason for its style.

    `graph_name`: where the graph will lie, if it is not yet there.
    """

    options: BuildOptions
    target: Path
    progress: ShowProgress | None
    graph_name: Path | None = None

    def __call__(self, source: Path, reason: str = "") -> EngineRecord:
        return build_engine(
            source,
            self.target,
            self.options,
            chosen=reason,
            named=self.graph_name,
            progress=self.progress,
        )


def _build_first_accepted(
    choices: Sequence[StyleChoice], folder_of: FolderOfStyle, source: Path, build: _Build
) -> EngineRecord:
    refused: dict[str, VendorError] = {}
    for choice in choices:
        why = "; ".join([choice.why, *(f"{style} was refused: {_reason(error)}" for style, error in refused.items())])
        try:
            return build(folder_of(choice.style), why)
        except VendorError as error:
            refused[choice.style] = error
    raise _none_accepted(source, refused)


def _none_accepted(source: Path, refused: Mapping[str, VendorError]) -> VendorError:
    """The error of one style by itself; of several each one's reason, and the model's own fault if there is one."""
    errors = list(refused.values())
    if len(errors) == 1:
        return errors[0]
    by_verdict = {getattr(error, "of_rotation", None): error for error in reversed(errors)}
    verdict = next(known for known in (False, None, True) if known in by_verdict)
    decisive = by_verdict[verdict]
    lines = [f"  - {style}: {_reason(error)}" for style, error in refused.items()]
    return GraphRefused(
        "\n".join([f"No style of {source} can be built:", *lines]),
        exists=decisive.exists if verdict is False else "",
        todo=decisive.todo,
        nodes=getattr(decisive, "nodes", ()),
        of_rotation=verdict,
    )


def _reason(error: VendorError) -> str:
    """The findings of a refusal, without the line that introduces them."""
    first, *findings = error.asked.splitlines()
    text = " ".join(" ".join(findings).split()).removeprefix("- ") if findings else first
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + " …"
