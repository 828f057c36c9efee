"""Where a model comes from, and what is refused before any library opens it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from rope_deploy.artifact.subject import FOLDERS, Kind, is_hub_name, subject_of
from rope_deploy.errors import ModelError
from rope_deploy.models.loading.folder_safety import check_folder, check_settings
from rope_deploy.models.loading.gguf_rotation import FileRotation, check_gguf

KINDS = "Give a Hugging Face folder, a .gguf file, a hub name (owner/name) or package.module:factory."


@dataclass(frozen=True)
class ModelLocation:
    """What transformers is to open, and with which extra keywords: a GGUF file is a folder plus a file name.

    `rotation` is what a GGUF file states of it; a folder says it in its configuration.
    """

    source: str
    where: str
    extra: Mapping[str, str] = field(default_factory=dict)
    rotation: FileRotation | None = None


def locate(source: str) -> ModelLocation:
    """What transformers is to open.

    Raises ModelError for a path that is nothing transformers could open, for a folder without safetensors or one that
    names files elsewhere, and for a GGUF file whose rotation transformers would not load.
    """
    if not source.strip() or "\0" in source:
        raise ModelError("No model was named.", todo=KINDS)
    subject = subject_of(source)
    path = subject.path
    if subject.kind is Kind.GGUF:
        if not os.path.isfile(path):
            raise ModelError(f"There is no file {source}.", todo="Give the path of an existing .gguf file.")
        rotation = check_gguf(path)
        check_settings(path.parent, config=False)  # transformers looks at what lies beside it
        return ModelLocation(source, str(path.parent), {"gguf_file": path.name}, rotation)
    if subject.kind in FOLDERS:
        check_folder(path)
        return ModelLocation(source, source)
    if os.path.exists(path) or not is_hub_name(source):
        raise ModelError(
            f"{source} is no model folder.",
            exists="It is a file of an unknown kind." if os.path.exists(path) else "There is no such folder.",
            todo=KINDS,
        )
    return ModelLocation(source, source)


def cached(name: str) -> str | None:
    """The folder of the hub's model `name` in Hugging Face's cache; None if it is not there. Nothing is fetched."""
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(name, local_files_only=True)
    except Exception:  # no such name, nothing in the cache: huggingface_hub has several errors for it
        return None
