"""What commands have written, as readers see it: artifacts, graphs with their weights, and files, each as one."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from rope_deploy.artifact import MANIFEST_NAME, changed_files, load_manifest


class Mixed(Exception):
    """Parts that do not belong together."""


def outputs(folder: Path) -> dict[str, object]:
    """Name → content of everything below `folder` that a reader takes as one; hidden folders are nobody's.

    Raises Mixed for an artifact that its manifest does not describe, and for a graph whose weights are not there.
    """
    found: dict[str, object] = {}
    artifacts = {path.parent for path in folder.rglob(MANIFEST_NAME)}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in Path(name).parts) or artifacts & {*path.parents}:
            continue
        if path in artifacts:
            found[name] = _artifact(path)
        elif path.suffix == ".onnx":
            found[name] = _graph(path)
        elif path.is_file() and path.suffix != ".data":
            found[name] = _without_times(path.read_text("utf-8"))
    return found


def visible(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def _artifact(folder: Path) -> object:
    manifest = load_manifest(folder)
    if changed := changed_files(folder, manifest):
        raise Mixed(f"an artifact and its {changed[0].split('.')[0]}")
    if strange := {entry.name for entry in folder.iterdir()} - {MANIFEST_NAME, *manifest.files}:
        raise Mixed(f"an artifact and a strange {min(strange)}")
    return manifest.style, manifest.opset, {name: info.sha256 for name, info in manifest.files.items()}


def _graph(path: Path) -> object:
    content = path.read_bytes()
    named = [one for one in path.parent.glob("*.data") if one.name.encode() in content]
    if len(named) != 1:
        raise Mixed("a graph without its weights")
    return tuple(hashlib.sha256(part).hexdigest() for part in (content, named[0].read_bytes()))


def _without_times(text: str) -> str:
    """A report without its numbers, some of which are times, and without the space that they take."""
    return re.sub(r"\d[\d.]*(e-?\d+)?|[\s─-]", "", text)
