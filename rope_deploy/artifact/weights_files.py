"""Weights beside a graph: under a name with their hash, so that an old graph never meets new weights.

A graph and its weights are two files and cannot be replaced in one step. So the weights come first, under a name that
no other content has, then the graph, which names them: that is the one step. Weights that no graph names any more go
last. Which those may be is noted before anything is renamed, so that the next run can finish what a killed one began.
"""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path

from rope_deploy.artifact.disk import sync
from rope_deploy.artifact.subject import GRAPH_ENDING

HASH_DIGITS = 12
JOURNAL = "weights"
LARGEST_GRAPH = 2 << 30  # bytes, of protobuf: what is larger names no weights


def weights_name(graph: str, sha256: str) -> str:
    """What the weights of the file `graph` are called if their SHA-256 is `sha256`."""
    return f"{graph}.{sha256[:HASH_DIGITS]}.data"


def record_weights(hidden: Path, target: Path, new: list[str]) -> None:
    """Keep in the staging folder which weights beside `target` may be left without a graph, now or after a kill."""
    old = [name for name in _beside(target) if target.is_file() and _names(target, name)]
    (hidden / JOURNAL).write_text("\n".join([*old, *new]), encoding="utf-8", errors="surrogateescape")
    sync(hidden / JOURNAL)


def drop_unnamed(hidden: Path, target: Path) -> None:
    """Remove those of the noted weights that no file beside them names: a graph kept as FILE.bak needs them too."""
    journal = hidden / JOURNAL
    if journal.is_symlink() or not journal.is_file():
        return
    noted = set(journal.read_text(encoding="utf-8", errors="surrogateescape").splitlines())
    for name in noted & set(_beside(target)):
        if not any(_names(path, name) for path in target.parent.iterdir() if path.is_file()):
            (target.parent / name).unlink(missing_ok=True)


def graph_of(weights: Path) -> Path | None:
    """A graph beside `weights` that names them as its own; None without one."""
    if weights.suffix.lower() == GRAPH_ENDING or not weights.is_file():
        return None
    graphs = (
        path for path in sorted(weights.parent.iterdir()) if path.suffix.lower() == GRAPH_ENDING and path.is_file()
    )
    return next((path for path in graphs if _names(path, weights.name)), None)


def _beside(target: Path) -> list[str]:
    """Names of files beside `target` that can be its weights: ours, and the plain name that others use."""
    ours = re.compile(rf"{re.escape(target.name)}(\.[0-9a-f]{{{HASH_DIGITS}}})?\.data")
    return [path.name for path in target.parent.iterdir() if ours.fullmatch(path.name) and path.is_file()]


def _names(file: Path, name: str) -> bool:
    """Whether `file` has the bytes of `name` in it: a graph stores a location as it is. In doubt, yes."""
    wanted = name.encode("utf-8", "surrogateescape")
    try:
        with file.open("rb") as stream:
            if not len(wanted) <= os.fstat(stream.fileno()).st_size < LARGEST_GRAPH:
                return False
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return content.find(wanted) >= 0
    except OSError:
        return True
