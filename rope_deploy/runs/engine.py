"""`build --style`: an engine from the style that suits the target, out of several artifacts or of a model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rope_deploy.artifact import MANIFEST_NAME, MODEL_NAME, load_manifest, refuse_existing, require_styles
from rope_deploy.errors import GraphRefused, UsageError, VendorError
from rope_deploy.report.records import EngineRecord
from rope_deploy.runs.opened import artifact_folders
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
    force: bool = False,
    progress: Tell | None = None,
    **options: Any,
) -> EngineRecord:
    """Build `target` from `style` of `source`; "auto" takes the best of `trt.preferred` that the flavour accepts.

    `source` is an artifact, a folder of artifacts, an ONNX file (which has no style: it is built as it is), or a
    model as `load_model` takes it, which is exported to `target`.artifact. `options` are those of `build_engine`.
    Without a `style` it is one artifact or file, as it is. What was chosen and why, and what was refused before it, is
    in the record's message and the engine's manifest.

    Raises what `build_engine` raises, what an export raises for a model, UsageError for a style that is not there,
    and GraphRefused, naming each style's reason, if none can be built.
    """
    options |= {"flavor": flavor, "plugin": plugin, "force": force, "progress": progress}
    if style is None:
        return build_engine(source, target, **options)
    if style != AUTO:
        require_styles((style,))
    chosen = find_flavor(flavor)
    choices = preferred(chosen, plugin=plugin is not None)
    choices = tuple(choice for choice in choices if style in (AUTO, choice.style))
    if _is_bare(source):
        if style != AUTO:
            raise UsageError(
                f"{source} has no style: it was not exported by rope-deploy.",
                todo="Leave --style out, or bring its rotations to that style with `rope-deploy rewrite`.",
            )
        return build_engine(source, target, **options)
    artifacts = _artifacts(source)
    if artifacts:
        if not (choices := tuple(choice for choice in choices if choice.style in artifacts)):
            raise UsageError(
                f"{source} has no artifact of style {style}.",
                exists=f"It has: {', '.join(artifacts)}.",
                todo="Give --style auto to take the best of these, or export the style.",
            )
        return _first_accepted(choices, artifacts.__getitem__, source, target, options)
    require(chosen)  # before minutes of export, not after
    refuse_existing(target, force=force)
    with _exported(str(source), target, force, progress or (lambda step: None)) as exported:
        return _first_accepted(choices, exported, source, target, options)


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
def _exported(source: str, target: Path, force: bool, progress: Tell) -> Iterator[Folders]:
    """Yield what writes the asked style of a model to the folder beside `target`, tracing the model only once."""
    from rope_deploy.exporter import prepare, write
    from rope_deploy.models import load_model

    place = target.with_name(f"{target.name}.artifact")
    refuse_existing(place, force=force)

    def say(words: str) -> None:
        progress(Progress(words))

    say(f"Loading {source}")
    prepared = prepare(load_model(source), progress=say)
    written = False

    def folder(style: str) -> Path:
        nonlocal written
        say(f"Writing style {style}")
        write(prepared, place, style, force=force or written)
        written = True
        return place

    try:
        yield folder
    except BaseException:
        if written:
            shutil.rmtree(place, ignore_errors=True)
        raise


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
