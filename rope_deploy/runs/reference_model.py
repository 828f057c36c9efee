"""Find the PyTorch model that artifacts were exported from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rope_deploy.artifact import Manifest
from rope_deploy.artifact.subject import Kind, is_hub_name, subject_of
from rope_deploy.errors import ModelError, UsageError
from rope_deploy.runs.artifacts import Artifact

if TYPE_CHECKING:
    from rope_deploy.models import LoadedModel


def load_reference(
    artifacts: Sequence[Artifact], model: str | LoadedModel | None, *, trust_remote_code: bool
) -> LoadedModel:
    """The PyTorch model that the artifacts were exported from; `model` says where it is instead, or is the model.

    Raises UsageError if the artifacts disagree or the model is another than theirs, ModelError if it is gone.
    """
    manifests = [artifact.manifest for artifact in artifacts]
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
    named = model or source_in_manifest(first, trusted=trust_remote_code)
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


def source_in_manifest(manifest: Manifest, *, trusted: bool) -> str:
    """The model that a manifest names. It describes: no code is run and nothing is fetched because a file says so.

    Raises UsageError for a factory and ModelError for a hub name that is not in the cache, unless `trusted`.
    """
    source = manifest.source
    if trusted or os.path.exists(source):
        return source
    if subject_of(source).kind is Kind.FACTORY:
        raise UsageError(
            f"The manifest names a factory, {source!r}: code that would be imported and called.",
            exists="An artifact may come from anybody, so what it names is not run.",
            todo=f"If you trust it, name it yourself: --model {source}, or give --trust-remote-code.",
        )
    if "/" not in source or not is_hub_name(source):
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
