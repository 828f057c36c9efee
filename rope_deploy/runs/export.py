"""`export`: trace a model, stop at a mistake that nobody accepted, and write it in each style."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from rope_deploy.artifact import held_folder
from rope_deploy.export import Prepared, prepare, write
from rope_deploy.graph.lower.lowerings import require_opset
from rope_deploy.models import LoadedModel, load_model
from rope_deploy.options import ExportOptions
from rope_deploy.results.codes import require_codes
from rope_deploy.results.records import ExportRecord
from rope_deploy.runs.accepted_mistakes import Judge
from rope_deploy.runs.progress import Progress, silent


def prepare_judged(
    loaded: LoadedModel, options: ExportOptions = ExportOptions(), *, progress: Progress = silent
) -> Prepared:
    """`export.prepare` with every difference from the configuration named.

    Raises what it raises, UsageError for an unknown code in `options.accept`, and MistakeFound for a mistake that is
    not among them.
    """
    accepted, recomputed = require_codes(options.accept), options.angles == "float64"
    judge = Judge(loaded.specs, accepted, recomputed=recomputed, dtype=loaded.dtype)
    return prepare(loaded, options, judge=judge, progress=progress)


def export_styles(
    loaded: LoadedModel, folders: Mapping[str, Path], options: ExportOptions, *, progress: Progress = silent
) -> tuple[ExportRecord, ...]:
    """Trace `loaded` once and write each style to its folder in `folders`."""
    prepared = prepare_judged(loaded, options, progress=progress)
    records = []
    for style, folder in folders.items():
        progress(f"Writing style {style}")
        records.append(
            write(
                prepared,
                folder,
                style,
                opset=options.opset,
                fused_attention=options.fused_attention,
                force=options.force,
            )
        )
    return tuple(records)


def export_model(
    source: str | LoadedModel, folder: Path, options: ExportOptions, *, progress: Progress = silent
) -> tuple[ExportRecord, ...]:
    """See `rope_deploy.api.export`."""
    for style in options.styles:
        require_opset(style, options.opset)
    require_codes(options.accept)
    several = len(options.styles) > 1
    folders = {style: Path(folder, style) if several else Path(folder) for style in options.styles}
    with ExitStack() as held:
        for target in folders.values():
            held.enter_context(held_folder(target, force=options.force))
        if isinstance(source, str):
            progress(f"Loading {source}")
            source = load_model(source, dtype=options.dtype, trust_remote_code=options.trust_remote_code)
        return export_styles(source, folders, options, progress=progress)
