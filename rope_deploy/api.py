"""What rope_deploy does, as functions. The command line calls these and nothing else.

Heavy packages are imported by the function that needs them, so importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rope_deploy.models import LoadedModel
    from rope_deploy.report.records import ExportRecord

__all__ = ["export", "load"]

Progress = Callable[[str], None]


def _silent(step: str) -> None:
    pass


def load(source: str, *, dtype: str = "float32", trust_remote_code: bool = False) -> LoadedModel:
    """Load a model: a Hugging Face folder, a .gguf file, a hub name, or package.module:factory.

    Raises ModelError if it cannot be loaded safely or has no rotary position embedding.
    """
    from rope_deploy.models import load_model

    return load_model(source, dtype=dtype, trust_remote_code=trust_remote_code)


def export(
    source: str | LoadedModel,
    folder: str | Path,
    *,
    styles: Sequence[str] = ("tables",),
    dtype: str = "float32",
    opset: int | None = None,
    max_position: int | None = None,
    angles: Literal["model", "float64"] = "model",
    cache: bool = True,
    fused_attention: bool = True,
    allow_unmatched: bool = False,
    trust_remote_code: bool = False,
    force: bool = False,
    progress: Progress = _silent,
) -> tuple[ExportRecord, ...]:
    """Export a model to ONNX in one or more styles, tracing it once.

    One style is written to `folder` itself, several each to a folder of its name inside it. Every artifact appears
    complete or not at all. `max_position` is the number of rows of the tables (default: the model's own maximum);
    `angles` "float64" computes them in fp64 instead of repeating the model's fp32 arithmetic; `cache` False leaves
    out the KV cache; `fused_attention` False keeps style contrib from using GroupQueryAttention.

    Raises UsageError (an existing folder without `force`, an opset or style that does not fit), ModelError,
    UnmatchedRotation (a rotation was not understood), EnvironmentMissing (a full disk).
    """
    from rope_deploy.artifact import refuse_existing, require_styles
    from rope_deploy.exporter import prepare, write

    require_styles(styles)
    target = Path(folder)
    places = {style: target if len(styles) == 1 else target / style for style in styles}
    for place in places.values():
        refuse_existing(place, force=force)
    if isinstance(source, str):
        progress(f"Loading {source}")
        source = load(source, dtype=dtype, trust_remote_code=trust_remote_code)
    prepared = prepare(
        source,
        cache=cache,
        max_position=max_position,
        angles=angles,
        allow_unmatched=allow_unmatched,
        progress=progress,
    )
    records = []
    for style, place in places.items():
        progress(f"Writing style {style}")
        records.append(write(prepared, place, style, opset=opset, fused_attention=fused_attention, force=force))
    return tuple(records)
