"""Decide what a path or a name stands for: an artifact, a graph, an engine, a model. Every command asks it here.

The answer follows from names and from what lies on the disk; no file is opened. A name that the system cannot look up,
because it is too long or lies in a closed folder, is one where nothing lies: `os.path` says so where `Path` raises.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from rope_deploy.artifact.file_names import MANIFEST_NAME, MODEL_NAME
from rope_deploy.errors import UsageError
from rope_deploy.safe_reading import CONFIG_NAME

GRAPH_ENDING = ".onnx"
ENGINE_ENDINGS = (".engine", ".plan", ".trt")
GGUF_ENDING = ".gguf"


class Kind(Enum):
    """What a subject is. Files are told apart by their endings, so that a missing file has a kind too.

    Upper and lower case of an ending are the same: no reader asks for either.
    """

    ARTIFACT = "a folder with a manifest"
    ARTIFACT_GRAPH = "the model.onnx of an artifact"
    GRAPH = "an .onnx file"
    ENGINE = "an engine file"
    GGUF = "a .gguf file"
    OTHER_FILE = "a file of another kind"
    MODEL_FOLDER = "a folder with a config.json"
    OTHER_FOLDER = "any other folder"
    FACTORY = "package.module:function"
    HUB_NAME = "a name on the hub, such as owner/name"
    ABSENT = "a path where nothing is"


FOLDERS = (Kind.ARTIFACT, Kind.MODEL_FOLDER, Kind.OTHER_FOLDER)


@dataclass(frozen=True)
class Subject:
    """What a command was given: `path` if it is one, and the `artifact` that it is, or is the graph of."""

    path: Path
    kind: Kind
    artifact: Path | None = None

    @property
    def inside(self) -> tuple[Path, ...]:
        """The artifacts in the folders directly inside this one; see `artifacts_inside`."""
        return artifacts_inside(self.path) if self.kind in FOLDERS else ()


def subject_of(given: str | Path) -> Subject:
    """The subject that a path or name stands for. Never raises."""
    path = Path(given)
    if is_artifact(path):
        return Subject(path, Kind.ARTIFACT, path)
    if os.path.isdir(path):
        return Subject(path, Kind.MODEL_FOLDER if os.path.exists(path / CONFIG_NAME) else Kind.OTHER_FOLDER)
    if path.name == MODEL_NAME and is_artifact(path.parent):
        return Subject(path, Kind.ARTIFACT_GRAPH, path.parent)
    return Subject(path, _kind_of_file(str(given), path))


def _kind_of_file(given: str, path: Path) -> Kind:
    by_ending = {GRAPH_ENDING: Kind.GRAPH, GGUF_ENDING: Kind.GGUF} | dict.fromkeys(ENGINE_ENDINGS, Kind.ENGINE)
    if (kind := by_ending.get(path.suffix.lower())) is not None:
        return kind
    if os.path.exists(path):
        return Kind.OTHER_FILE
    if ":" in given:
        return Kind.FACTORY
    return Kind.HUB_NAME if is_hub_name(given) else Kind.ABSENT


def is_artifact(path: Path) -> bool:
    return os.path.isfile(Path(path) / MANIFEST_NAME)


def is_hub_name(name: str) -> bool:
    """Whether `name` could be one on the hub (owner/name, or name alone), and is not written as a path."""
    return name.count("/") <= 1 and not name.startswith((".", "~")) and not Path(name).is_absolute()


def artifacts_inside(folder: Path) -> tuple[Path, ...]:
    """The artifacts in the folders directly inside `folder`, as `export` writes several styles.

    Not those in hidden folders, which hold what a run is still making, or what a killed one left.
    """
    folder = Path(folder)
    return tuple(sorted(path.parent for path in folder.glob(f"[!.]*/{MANIFEST_NAME}"))) if os.path.isdir(folder) else ()


def artifact_folders(folder: Path) -> tuple[Path, ...]:
    """The artifacts that `folder` stands for: those directly inside it, or, where there are none, itself.

    Raises UsageError if it is an artifact and holds others: no export writes that, and a reader of the one would not
    see the others.
    """
    folder, inside = Path(folder), artifacts_inside(folder)
    own = is_artifact(folder)
    if own and inside:
        raise UsageError(
            f"{folder} is an artifact and holds others.",
            exists=f"Artifacts inside: {', '.join(path.name for path in inside)}.",
            todo="Move them out of it, and name them one at a time.",
        )
    return (folder,) if own or not inside else inside


def folders_of_stray_graphs(folder: Path) -> tuple[Path, ...]:
    """Where `folder` holds several artifacts: the folders with a graph that are none of them.

    Either they have no manifest, or they lie deeper. What is hidden is left out, and what lies inside an artifact.
    """
    folder = Path(folder)
    known = artifact_folders(folder)
    if known == (folder,):
        return ()
    return tuple(sorted(_folders_with_graphs(folder, {os.path.realpath(path) for path in known})))


def graphs_in(folder: Path) -> list[Path]:
    """The .onnx files directly in `folder` that are not hidden."""
    return sorted(path for path in Path(folder).glob("[!.]*") if path.suffix.lower() == GRAPH_ENDING)


def _folders_with_graphs(folder: Path, known: set[str]) -> Iterator[Path]:
    """`folder` and those below it that hold a graph. None twice, not by a link either, and none of `known`."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        if any(name.lower().endswith(GRAPH_ENDING) for name in files):
            yield Path(parent)
        below = {name: os.path.realpath(os.path.join(parent, name)) for name in folders if not name.startswith(".")}
        folders[:] = [name for name, real in below.items() if real not in known]
        known |= set(below.values())
