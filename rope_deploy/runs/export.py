"""`export`: trace a model, stop at a mistake that nobody accepted, and write it in each style."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from rope_deploy.artifact import held_folder, require_styles
from rope_deploy.export import Prepared, prepare, write
from rope_deploy.graph.lower.styles import require_opset
from rope_deploy.models import LoadedModel, load_model
from rope_deploy.results.codes import require_codes
from rope_deploy.results.records import ExportRecord
from rope_deploy.runs.accepted_mistakes import Judge
from rope_deploy.runs.report_frame import Progress


def prepare_judged(
    loaded: LoadedModel,
    *,
    accept: Collection[str] = (),
    angles: Literal["model", "float64"] = "model",
    **options: Any,
) -> Prepared:
    """`exporter.prepare`, which takes `options`, with every difference from the configuration named.

    Raises what it raises, UsageError for an unknown code in `accept`, and MistakeFound for a mistake not among them.
    """
    judge = Judge(loaded.specs, require_codes(accept), mended=angles == "float64", dtype=loaded.dtype)
    return prepare(loaded, angles=angles, judge=judge, **options)


def export_styles(
    loaded: LoadedModel,
    places: Mapping[str, Path],
    *,
    opset: int | None = None,
    fused_attention: bool = True,
    force: bool = False,
    progress: Progress = lambda step: None,
    **options: Any,
) -> tuple[ExportRecord, ...]:
    """Trace `loaded` once and write each style to its folder in `places`; `options` are those of `prepare_judged`."""
    prepared = prepare_judged(loaded, progress=progress, **options)
    records = []
    for style, place in places.items():
        progress(f"Writing style {style}")
        records.append(write(prepared, place, style, opset=opset, fused_attention=fused_attention, force=force))
    return tuple(records)


def export_model(
    source: str | LoadedModel,
    folder: Path,
    styles: Sequence[str],
    *,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    force: bool = False,
    progress: Progress = lambda step: None,
    **options: Any,
) -> tuple[ExportRecord, ...]:
    """See `rope_deploy.api.export`; `options` are those of `export_styles`."""
    require_styles(styles)
    for style in styles:
        require_opset(style, options.get("opset"))
    require_codes(options.get("accept", ()))
    places = {style: Path(folder, *([style] if len(styles) > 1 else [])) for style in styles}
    with ExitStack() as held:
        for place in places.values():
            held.enter_context(held_folder(place, force=force))
        if isinstance(source, str):
            progress(f"Loading {source}")
            source = load_model(source, dtype=dtype, trust_remote_code=trust_remote_code)
        return export_styles(source, places, force=force, progress=progress, **options)
