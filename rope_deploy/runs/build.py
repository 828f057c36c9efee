"""`build --style`: an engine from the style that suits the target, out of several artifacts or of a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rope_deploy.artifact import MANIFEST_NAME, MODEL_NAME, load_manifest, new_folder, refuse_existing, require_styles
from rope_deploy.errors import GraphRefused, UsageError, VendorError
from rope_deploy.results.codes import require_codes
from rope_deploy.results.records import EngineRecord
from rope_deploy.runs.open_artifact import artifact_folders
from rope_deploy.trt import AUTO, Choice, Progress, build_engine, find_flavor, preferred, require

LONGEST_REASON = 300  # characters of a refusal that are repeated beside another
Tell = Callable[[Progress], None]
Folders = Callable[[str], Path]


def build_styled(
    source: Path,
    target: Path,
    style: str | None,
    *,
    flavor: str | None = None,
    plugin: Path | None = None,
    accept: Collection[str] = (),
    force: bool = False,
    progress: Tell | None = None,
    **options: Any,
) -> EngineRecord:
    """Build `target` from `style` of `source`; "auto" takes the best of `trt.preferred` that the flavour accepts.

    `source` is an artifact, a folder of artifacts, an ONNX file (which has no style: it is built as it is), or a
    model as `load_model` takes it, which is exported to `target`.artifact; `accept` is that of `export`. `options` are
    those of `build_engine`. Without a `style` it is one artifact or file, as it is. What was chosen and why, and what
    was refused before it, is in the record's message and the engine's manifest.

    Raises what `build_engine` raises, what an export raises for a model, UsageError for a style that is not there,
    and GraphRefused, naming each style's reason, if none can be built.
    """
    options |= {"flavor": flavor, "plugin": plugin, "force": force, "progress": progress}
    require_codes(accept)
    if style is None:
        _require_model(source, accept, "--style is not given")
        return build_engine(source, target, **options)
    if style != AUTO:
        require_styles((style,))
    chosen = find_flavor(flavor)
    choices = preferred(chosen, plugin=plugin is not None)
    choices = tuple(choice for choice in choices if style in (AUTO, choice.style))
    if _is_bare(source):
        _require_model(source, accept, "this is an ONNX file")
        if style != AUTO:
            raise UsageError(
                f"{source} has no style: it was not exported by rope-deploy.",
                todo="Leave --style out, or bring its rotations to that style with `rope-deploy rewrite`.",
            )
        return build_engine(source, target, **options)
    artifacts = _artifacts(source)
    if artifacts:
        _require_model(source, accept, "this is exported already")
        if not (choices := tuple(choice for choice in choices if choice.style in artifacts)):
            raise UsageError(
                f"{source} has no artifact of style {style}.",
                exists=f"It has: {', '.join(artifacts)}.",
                todo="Give --style auto to take the best of these, or export the style.",
            )
        return _first_accepted(choices, artifacts.__getitem__, source, target, options)
    require(chosen)  # before minutes of export, not after
    refuse_existing(target, force=force)
    options["named"] = artifact_of(target) / MODEL_NAME
    with _exported(str(source), target, accept, force, progress or (lambda step: None)) as exported:
        record = _first_accepted(choices, exported, source, target, options)
    if findings := load_manifest(artifact_of(target)).findings:
        said = f"{len(findings)} note(s) of the export, the first: {findings[0].message}"
        record = replace(record, message=f"{record.message}; {said}")
    return record


def _require_model(source: Path, accept: Collection[str], why: str) -> None:
    """Raise UsageError if a mistake is to be accepted and nothing is exported, where one could be met."""
    if accept:
        raise UsageError(
            f"There is nothing to accept in {source}: {why}.",
            exists="--accept is for the export of a MODEL, which `build` does with --style.",
            todo="Leave --accept out.",
        )


def _is_bare(source: Path) -> bool:
    return source.suffix == ".onnx" and not (source.name == MODEL_NAME and (source.parent / MANIFEST_NAME).is_file())


def _artifacts(source: Path) -> dict[str, Path]:
    """Folders by style; {} if `source` is no artifact and holds none. Raises UsageError for two of one style."""
    found: dict[str, Path] = {}
    for folder in artifact_folders(source.parent if source.name == MODEL_NAME else source):
        if (folder / MANIFEST_NAME).is_file():
            style = load_manifest(folder).style
            if style in found:
                raise UsageError(
                    f"{source} has two artifacts of style {style}: {found[style].name} and {folder.name}.",
                    todo="Give the one to build.",
                )
            found[style] = folder
    return found


@contextmanager
def _exported(source: str, target: Path, accept: Collection[str], force: bool, progress: Tell) -> Iterator[Folders]:
    """Yield what writes the asked style of a model, tracing it only once; the last one ends up beside `target`.

    Until its engine is built it lies in a hidden folder: an artifact that was there before stays if none can be.
    """
    from rope_deploy.export import write
    from rope_deploy.models import load_model
    from rope_deploy.runs.export import prepare_judged

    def say(words: str) -> None:
        progress(Progress(words))

    with new_folder(artifact_of(target), force=force) as unfinished:
        say(f"Loading {source}")
        prepared = prepare_judged(load_model(source), accept=accept, progress=say)
        written = unfinished

        def folder(style: str) -> Path:
            nonlocal written
            say(f"Writing style {style}")
            written = unfinished.with_name(f"{unfinished.name}.styles") / style
            write(prepared, written, style)
            return written

        yield folder
        written.replace(unfinished)


def artifact_of(target: Path) -> Path:
    """Where the artifact lies that a model is exported to for the engine `target`."""
    return target.with_name(f"{target.name}.artifact")


def _first_accepted(
    choices: Sequence[Choice], folder_of: Folders, source: Path, target: Path, options: dict[str, Any]
) -> EngineRecord:
    refused: dict[str, VendorError] = {}
    for choice in choices:
        why = "; ".join([choice.why, *(f"{style} was refused: {_reason(error)}" for style, error in refused.items())])
        try:
            return build_engine(folder_of(choice.style), target, chosen=why, **options)
        except VendorError as error:
            refused[choice.style] = error
    raise _none_accepted(source, refused)


def _none_accepted(source: Path, refused: dict[str, VendorError]) -> VendorError:
    """What one style fails for by itself; of several each one's reason, and the model's own fault if there is one."""
    errors = list(refused.values())
    if len(errors) == 1:
        return errors[0]
    verdicts = {getattr(error, "of_rotation", None): error for error in reversed(errors)}
    verdict = next(known for known in (False, None, True) if known in verdicts)
    decisive = verdicts[verdict]
    lines = [f"  - {style}: {_reason(error)}" for style, error in refused.items()]
    return GraphRefused(
        "\n".join([f"No style of {source} can be built:", *lines]),
        exists=decisive.exists if verdict is False else "",
        todo=decisive.todo,
        nodes=getattr(decisive, "nodes", ()),
        of_rotation=verdict,
    )


def _reason(error: VendorError) -> str:
    """The findings of a refusal, without what introduces them."""
    first, *findings = error.asked.splitlines()
    words = " ".join(" ".join(findings).split()).removeprefix("- ") if findings else first
    return words if len(words) <= LONGEST_REASON else words[:LONGEST_REASON] + " …"
