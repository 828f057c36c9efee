"""An artifact that a run works on: its folder and its manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rope_deploy.artifact import Manifest, load_manifest
from rope_deploy.artifact.subject import artifact_folders


@dataclass(frozen=True)
class Artifact:
    """An artifact folder and its manifest."""

    folder: Path
    manifest: Manifest


def load_artifacts(folder: Path) -> tuple[Artifact, ...]:
    """The artifacts that `folder` stands for. Raises what `load_manifest` raises, of the first that is faulty."""
    return tuple(Artifact(path, load_manifest(path)) for path in artifact_folders(folder))
