"""What the files of an artifact are called, and names that a file gives for others: plain ones, inside its own folder.

A manifest or an ONNX file may come from anybody. What it names must not make us read, or hash, what lies elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

MANIFEST_NAME = "rope_deploy.json"
MODEL_NAME = "model.onnx"


def name_fault(name: str) -> str:
    """Why `name` is no plain name of a file in a folder, or in folders inside it, in words; "" if it is one."""
    parts = PurePosixPath(name).parts
    if not name or any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "it is empty" if not name else "it has control characters"
    if name.startswith("/") or "\\" in name or (len(name) > 1 and name[1] == ":"):
        return "it is a path, not a name"
    if ".." in parts or "." in name.split("/") or not parts:
        return "it leads out of the folder"
    return ""


def artifact_around(target: Path) -> Path | None:
    """The nearest folder that `target` lies in, at any depth, and that holds a manifest; None without one."""
    parents = Path(os.path.abspath(target)).parents
    return next((parent for parent in parents if (parent / MANIFEST_NAME).is_file()), None)


def link_fault(folder: Path, name: str) -> str:
    """Why the file of a plain `name` in `folder` is not read, in words: it is a link to something elsewhere. Else "".

    Hugging Face's cache is an exception: models--owner--name/snapshots/REVISION/ holds links to ../../blobs/HASH. A
    file that does not exist is no fault.
    """
    path = Path(folder) / name
    real = Path(os.path.realpath(path))
    if real.is_relative_to(os.path.realpath(folder)):
        return "" if real.is_file() or not os.path.lexists(path) else "it is no regular file"
    repository = real.parent.parent
    snapshots = repository / "snapshots"
    cached = real.parent.name == "blobs" and Path(os.path.realpath(folder)).is_relative_to(snapshots)
    return "" if cached and real.is_file() else f"it is a link to {real}, outside the folder"
