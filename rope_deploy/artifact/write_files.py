"""How files come to be whole or not at all: made in a hidden folder beside the target, then one rename."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rope_deploy.artifact.disk import sync, sync_name
from rope_deploy.artifact.file_names import MANIFEST_NAME, artifact_around
from rope_deploy.artifact.staging import NEW, absolute_name, empty, remove, staging
from rope_deploy.artifact.weights_files import graph_of, record_weights
from rope_deploy.errors import RopeDeployError, UsageError
from rope_deploy.safe_reading import parse_json, read_bytes


@contextmanager
def new_file(target: Path, *, force: bool = True) -> Iterator[Path]:
    """Yield an unfinished file beside `target`; on success it takes `target`'s place, on any failure it is gone.

    An existing `target` is replaced in one step; if it is a link, the link is, not what it leads to. Raises UsageError
    if another run is writing it, or if it exists and `force` is False.
    """
    with staging(target) as hidden:
        refuse_existing(target, force=force)
        target = absolute_name(target)
        unfinished = hidden / NEW
        try:
            yield unfinished
            sync(unfinished)
            os.replace(unfinished, target)
            sync_name(target)
        finally:
            remove(unfinished)


@contextmanager
def new_graph(target: Path, *, force: bool = False) -> Iterator[Path]:
    """The same for a graph and its weights: both are written beside each other, the weights as `weights_name` says.

    The graph's rename is the step in which both are replaced. Weights that no graph names any more are removed.
    """
    with staging(target) as hidden:
        refuse_existing(target, force=force)
        target = absolute_name(target)
        folder = hidden / NEW
        try:
            folder.mkdir()
            yield folder / target.name
            sync(folder)
            weights = sorted(path.name for path in folder.iterdir() if path.name != target.name)
            _refuse_occupied([target.with_name(name) for name in weights])
            record_weights(hidden, target, weights)
            for name in weights:
                os.replace(folder / name, target.with_name(name))
            sync_name(target)
            os.replace(folder / target.name, target)
            sync_name(target)
        finally:
            empty(hidden)


def _refuse_occupied(weights: list[Path]) -> None:
    """Weights replace a file of their name, which has their content, and nothing of another kind."""
    for path in weights:
        if is_special(path) or (path.is_dir() and not path.is_symlink()):
            raise UsageError(
                f"{path} is in the way of the weights, whose name follows from what is in them.",
                exists="It is a folder, or no regular file.",
                todo="Move it away, or choose another place.",
            )


def withdraw(path: Path) -> None:
    """Remove a file of ours that no longer holds; one that is gone already is none the less."""
    Path(path).unlink(missing_ok=True)


def write_utf8(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to a file inside what `new_file`, `new_graph` or `new_folder` yielded."""
    path.write_text(text, encoding="utf-8")


def refuse_existing(target: Path, *, force: bool) -> None:
    """Raise UsageError unless a file may be written to `target`: it is free, or a file and `force` was given.

    Called early too, before any long work.
    """
    asked, target = target, absolute_name(target)
    refuse_inside_file(target)
    if target.is_dir() and not target.is_symlink():
        raise UsageError(
            f"{asked} is a folder, and the output is one file.",
            exists=f"It holds: {listing(target)}.",
            todo="Give the name of a file.",
        )
    if is_special(target):
        raise UsageError(
            f"{asked} is no regular file, so none replaces it, not even with --force.",
            exists="It is a device, a pipe or a socket.",
            todo="Give the name of a file.",
        )
    if os.path.lexists(target) and not force:
        raise UsageError(f"{asked} exists already.", todo="Choose another place, or give --force to replace it.")
    if os.path.lexists(target) and (around := artifact_around(target)) and _is_listed(target, around):
        raise UsageError(
            f"{asked} is part of the artifact {around}, so it is not replaced alone, not even with --force.",
            exists="Its manifest describes each of its files, and none of them would be what it says.",
            todo="Choose another place.",
        )
    if graph := graph_of(target):
        raise UsageError(
            f"{asked} holds weights of {graph.name}, so nothing replaces it, not even with --force.",
            todo="Give the file another name.",
        )


def _is_listed(target: Path, artifact: Path) -> bool:
    """Whether the manifest of `artifact` names `target`, or is it. One that cannot be read names nothing."""
    name = Path(os.path.abspath(target)).relative_to(artifact).as_posix()
    if name == MANIFEST_NAME:
        return True
    try:
        held = parse_json(read_bytes(artifact / MANIFEST_NAME))
    except (OSError, ValueError, RopeDeployError):
        return False
    files = held.get("files") if isinstance(held, dict) else None
    return isinstance(files, Mapping | Sequence) and name in files


def is_special(path: Path) -> bool:
    """Whether a device, a pipe or a socket lies at `path`; a link to one is a link, and may be replaced."""
    return os.path.lexists(path) and not (path.is_symlink() or path.is_file() or path.is_dir())


def refuse_inside_file(target: Path) -> None:
    """Raise UsageError if one of the folders that `target` is in is a file."""
    if inside := next((parent for parent in target.parents if parent.exists() and not parent.is_dir()), None):
        raise UsageError(f"{target} cannot be written: {inside} is a file.", todo="Choose another place.")


def listing(folder: Path, most: int = 6) -> str:
    if not os.path.isdir(folder):
        return "nothing (it is a file)" if os.path.exists(folder) else "nothing (there is no such folder)"
    names = sorted(entry.name for entry in folder.iterdir())
    return (", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")) or "nothing"
