"""Find an artifact's model again, and open the runtimes that a run asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rope_deploy.artifact import MANIFEST_NAME, Manifest, load_manifest
from rope_deploy.errors import ModelError, UsageError

if TYPE_CHECKING:
    from rope_deploy.models import LoadedModel


@dataclass(frozen=True)
class Opened:
    """An artifact folder and its manifest."""

    folder: Path
    manifest: Manifest


def open_artifacts(folder: Path) -> tuple[Opened, ...]:
    """The artifacts of `artifact_folders`. Raises what `load_manifest` raises, of the first that is faulty."""
    return tuple(Opened(path, load_manifest(path)) for path in artifact_folders(folder))


def artifact_folders(folder: Path) -> tuple[Path, ...]:
    """`folder`, or every artifact in the folders directly inside it (as `export` writes several).

    Not in hidden ones: those hold what a run is still making, or what a killed one left. Raises UsageError if it is an
    artifact and holds others: no export writes that, and a reader of the one would not see the others.
    """
    folder = Path(folder)
    inside = sorted(path.parent for path in folder.glob(f"[!.]*/{MANIFEST_NAME}")) if folder.is_dir() else []
    own = (folder / MANIFEST_NAME).is_file()
    if own and inside:
        raise UsageError(
            f"{folder} is an artifact and holds others.",
            exists=f"Artifacts inside: {', '.join(path.name for path in inside)}.",
            todo="Move them out of it, and name them one at a time.",
        )
    return (folder,) if own or not inside else tuple(inside)


def passed_over(folder: Path) -> tuple[Path, ...]:
    """Where `folder` holds several artifacts: folders with a graph that are none of them, for want of a manifest or
    because they lie deeper. Not what is hidden, nor what lies inside an artifact."""
    folder = Path(folder)
    known = artifact_folders(folder)
    if known == (folder,):
        return ()
    return tuple(sorted(_with_graphs(folder, {os.path.realpath(path) for path in known})))


def _with_graphs(folder: Path, seen: set[str]) -> Iterator[Path]:
    """Folders below `folder`, and itself, that hold a graph. None twice, be it by a link, and none in `seen`."""
    for place, folders, files in os.walk(folder, followlinks=True):
        if any(name.lower().endswith(".onnx") for name in files):
            yield Path(place)
        below = {name: os.path.realpath(os.path.join(place, name)) for name in folders if not name.startswith(".")}
        folders[:] = [name for name, real in below.items() if real not in seen]
        seen |= set(below.values())


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
    named = model or source_named(first, trusted=trust_remote_code)
    try:
        loaded = load_model(named, dtype=first.dtype, trust_remote_code=trust_remote_code)
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


def source_named(manifest: Manifest, *, trusted: bool) -> str:
    """The model that a manifest names. It describes: no code is run and nothing is fetched because a file says so.

    Raises UsageError for a factory and for a hub name that is not in the cache, unless `trusted`.
    """
    source = manifest.source
    if trusted or Path(source).exists():
        return source
    if ":" in source:
        raise UsageError(
            f"The manifest names a factory, {source!r}: code that would be imported and called.",
            exists="An artifact may come from anybody, so what it names is not run.",
            todo=f"If you trust it, name it yourself: --model {source}, or give --trust-remote-code.",
        )
    if source.count("/") != 1 or source.startswith((".", "~", "/")):
        return source  # a path, and nothing is there: loading it says so
    from rope_deploy.models.loading.locate import cached

    if (folder := cached(source)) is not None:
        return folder
    raise ModelError(
        f"The model {source}, which the manifest names, is not on this machine.",
        exists="It is no folder below the present one, and not in Hugging Face's cache; "
        "nothing is fetched from the hub because a file names it.",
        todo=f"Give --model with the folder where it lies, or --model {source} to fetch it.",
    )


def require_runtimes(runtimes: Sequence[str], engine: Path | None, known: Sequence[str]) -> None:
    """Raise UsageError for a runtime that is not `known`, for none at all, or for trt without an engine."""
    if not runtimes:
        raise UsageError("No runtime was named.", exists=f"Runtimes: {', '.join(known)}.")
    if strange := [name for name in runtimes if name not in known]:
        raise UsageError(f"Unknown runtime {', '.join(strange)}.", exists=f"Runtimes: {', '.join(known)}.")
    if "trt" in runtimes and engine is None:
        raise UsageError(
            "Runtime trt needs an engine.", todo="Make one with `rope-deploy build`, and give it with --engine FILE."
        )
