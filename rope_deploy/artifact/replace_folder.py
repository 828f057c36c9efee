"""How artifact folders come to be whole or not at all, and what of an old one may be replaced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rope_deploy.artifact.disk import exchange, sync, sync_name
from rope_deploy.artifact.file_names import MANIFEST_NAME, artifact_around
from rope_deploy.artifact.manifest import Manifest, load_manifest
from rope_deploy.artifact.staging import NEW, absolute_name, remove, staging
from rope_deploy.artifact.write_files import listing, refuse_inside_file
from rope_deploy.errors import EnvironmentMissing, RopeDeployError, UsageError

MOST_NAMED = 6


@contextmanager
def new_folder(target: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield an unfinished folder beside `target`; on success it takes `target`'s place, on any failure it is gone.

    With `force` it changes places with the old artifact in one step: at no instant is there none. Raises what
    `held_folder` raises.
    """
    with held_folder(target, force=force) as hidden:
        target, unfinished = absolute_name(target), hidden / NEW
        try:
            unfinished.mkdir()
            yield unfinished
            sync(unfinished)
            _replace(unfinished, target, force)
            sync_name(target)
        finally:
            remove(unfinished)


@contextmanager
def held_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """Hold `target` for an artifact against other runs, from before long work on; yields its hidden staging folder.

    Raises what `refuse_folder` raises, UsageError if another run is writing it, EnvironmentMissing where an old
    artifact cannot be replaced in one step, or the disk is full or read-only.
    """
    refuse_folder(target, force=force)
    with staging(target) as hidden:
        refuse_folder(target, force=force)
        target = absolute_name(target)
        if _occupied(target):
            _require_exchange(hidden, target)
        yield hidden


def refuse_folder(target: Path, *, force: bool) -> None:
    """Raise UsageError unless an artifact may be written to `target`.

    It is free; or `force` was given and there is an empty folder, or an artifact and nothing but what its manifest
    lists. Whatever else lies there would be lost, so it is never replaced. It does not lie in another artifact, whose
    readers would not see it.
    """
    asked, target = target, absolute_name(target)
    refuse_inside_file(target)
    if around := artifact_around(target):
        raise UsageError(
            f"{asked} lies inside the artifact {around}.",
            exists="An artifact holds no others.",
            todo="Choose a place beside it.",
        )
    if not os.path.lexists(target):
        return
    if not force:
        raise UsageError(
            f"{asked} exists already.",
            exists=f"It holds: {listing(target)}." if target.is_dir() else "",
            todo="Choose another place, or give --force to replace it.",
        )
    if not target.is_dir():
        raise UsageError(
            f"{asked} is no folder, so no artifact replaces it, not even with --force.",
            todo="Choose another place, or remove it yourself.",
        )
    if not any(target.iterdir()):
        return
    if not (target / MANIFEST_NAME).exists():
        raise UsageError(
            f"{asked} is not an artifact, so it is not replaced, not even with --force.",
            exists=f"It holds: {listing(target)}.",
            todo="Choose another place, or remove the folder yourself.",
        )
    try:
        manifest = load_manifest(target)
    except RopeDeployError as error:
        raise UsageError(
            f"{asked} is not an artifact, so it is not replaced, not even with --force: {error.asked.rstrip('.:')}.",
            exists=f"It holds: {listing(target)}.",
            todo="Choose another place, or remove the folder yourself.",
        ) from None
    if others := strangers(target, manifest):
        raise UsageError(
            f"{asked} holds what its artifact's manifest does not list, so it is not replaced, not even with --force.",
            exists=f"Not of the artifact: {', '.join(others[:MOST_NAMED])}"
            + (f" and {len(others) - MOST_NAMED} more." if len(others) > MOST_NAMED else "."),
            todo="Move that to another place, or choose one for the artifact.",
        )


def strangers(folder: Path, manifest: Manifest) -> list[str]:
    """What is in `folder`, at any depth, and not in its manifest's list; a folder with nothing listed counts whole."""
    listed = {MANIFEST_NAME, *manifest.files}
    found = []
    for parent, folders, names in os.walk(folder):
        inside = Path(parent).relative_to(folder)
        for name in [*names, *(name for name in folders if (Path(parent) / name).is_symlink())]:
            if (inside / name).as_posix() not in listed:
                found.append((inside / name).as_posix())
        for name in list(folders):
            path = (inside / name).as_posix() + "/"
            if not any(one.startswith(path) for one in listed):
                folders.remove(name)
                if not (Path(parent) / name).is_symlink():
                    found.append(path)
    return sorted(found)


def _occupied(target: Path) -> bool:
    """Whether a rename would not do: it puts a folder on a free name or an empty folder, and on nothing else."""
    return os.path.lexists(target) and (target.is_symlink() or any(target.iterdir()))


def _replace(unfinished: Path, target: Path, force: bool) -> None:
    refuse_folder(target, force=force)  # again: minutes went by
    if not _occupied(target):
        os.rename(unfinished, target)
        return
    exchange(unfinished, target)
    try:
        if not unfinished.is_symlink():
            refuse_folder(unfinished, force=True)  # and what came into it since the line above
    except UsageError:
        exchange(unfinished, target)
        refuse_folder(target, force=True)  # the same, by its own name
        raise


def _require_exchange(hidden: Path, target: Path) -> None:
    """Find out before long work whether two folders can change places here."""
    one, other = hidden / NEW / "one", hidden / NEW / "other"
    try:
        one.mkdir(parents=True)
        other.mkdir()
        exchange(one, other)
    except OSError as error:
        raise EnvironmentMissing(
            f"{target} cannot be replaced in one step: {error.strerror}.",
            exists="This file system cannot let two folders change places, and in two steps a kill would lose both.",
            todo="Remove the old artifact yourself, or choose another place.",
        ) from None
    finally:
        remove(hidden / NEW)
