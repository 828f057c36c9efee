"""Find an artifact's model again, and open the runtimes that a run asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rope_deploy.artifact import Manifest, load_manifest
from rope_deploy.errors import ModelError, UsageError

if TYPE_CHECKING:
    from rope_deploy.models import LoadedModel

RUNTIMES = ("torch", "ort", "trt")


@dataclass(frozen=True)
class Opened:
    """An artifact folder and its manifest."""

    folder: Path
    manifest: Manifest


def open_artifacts(folder: Path) -> tuple[Opened, ...]:
    """The artifacts of `artifact_folders`. Raises what `load_manifest` raises, of the first that is faulty."""
    return tuple(Opened(path, load_manifest(path)) for path in artifact_folders(folder))


def artifact_folders(folder: Path) -> tuple[Path, ...]:
    """`folder`, or every artifact in the folders directly inside it (as `export` writes several)."""
    folder = Path(folder)
    inside = sorted(path.parent for path in folder.glob("*/rope_deploy.json")) if folder.is_dir() else []
    return (folder,) if (folder / "rope_deploy.json").is_file() or not inside else tuple(inside)


def model_of(artifacts: Sequence[Opened], model: str | LoadedModel | None, *, trust_remote_code: bool) -> LoadedModel:
    """The PyTorch model the artifacts were exported from; `model` overrides where to find it.

    Raises UsageError if the artifacts disagree or the model is another than theirs, ModelError if it is gone.
    """
    manifests = [opened.manifest for opened in artifacts]
    if len({(m.source, m.dtype) for m in manifests}) != 1 and model is None:
        raise UsageError(
            "The artifacts come from different models.",
            exists=", ".join(sorted({f"{m.source} ({m.dtype})" for m in manifests})),
            todo="Check them one at a time.",
        )
    if model is not None and not isinstance(model, str):
        return model
    from rope_deploy.models import load_model

    first = manifests[0]
    try:
        loaded = load_model(model or first.source, dtype=first.dtype, trust_remote_code=trust_remote_code)
    except ModelError as error:
        if model is None:
            error.todo = f"{error.todo} The manifest names {first.source}; give --model if it has moved."
        raise
    if loaded.model_type != first.model_type:
        raise UsageError(
            f"{loaded.source} is a {loaded.model_type}; the artifact was exported from a {first.model_type}.",
            todo="Give the model it was exported from.",
        )
    return loaded


def require_runtimes(runtimes: Sequence[str], engine: Path | None, known: Sequence[str] = RUNTIMES) -> None:
    """Raise UsageError for a runtime that is not `known`, for none at all, or for trt without an engine."""
    if not runtimes:
        raise UsageError("No runtime was named.", exists=f"Runtimes: {', '.join(known)}.")
    if strange := [name for name in runtimes if name not in known]:
        raise UsageError(f"Unknown runtime {', '.join(strange)}.", exists=f"Runtimes: {', '.join(known)}.")
    if "trt" in runtimes and engine is None:
        raise UsageError(
            "Runtime trt needs an engine.", todo="Make one with `rope-deploy build`, and give it with --engine FILE."
        )
