"""The hidden folder beside an output in which it is made: a lock while its run lives, a leftover once that is dead.

`.NAME.rope-deploy` holds `lock`, on which the run has a flock that the system takes back however the run ends, and
`new…`, what is being made (or was replaced and is about to go). The next run that writes into the same folder
takes the lock of a dead one and removes what it left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from rope_deploy.artifact.disk import SUFFIX, disk_errors
from rope_deploy.artifact.leftovers import remove_older
from rope_deploy.artifact.weights_files import JOURNAL, drop_unnamed
from rope_deploy.errors import EnvironmentMissing, UsageError

LOCK, NEW = "lock", "new"
TRIES, PAUSE = 20, 0.05  # a run that clears up holds the lock of a dead one for a moment

_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """Hold `target` against other runs, and yield the hidden folder beside it; inside, it may be held again.

    Folders above `target` are made, and vanish again if it does not come about. Raises UsageError if another run is
    writing it, EnvironmentMissing for a full or read-only disk.
    """
    target = place_of(target)
    place = target.parent / f".{target.name}{SUFFIX}"
    if place in _held.get():
        yield place
        return
    with disk_errors(target), _parents(target):
        with disk_errors(target, every=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            lock = _locked(place, target)
        token = _held.set(_held.get() | {place})
        try:
            empty(place)
            _sweep(target)
            yield place
        finally:
            _held.reset(token)
            _release(place, lock)


def empty(place: Path) -> None:
    """Remove what a staging folder holds, and weights that were renamed into place for a graph that never came."""
    drop_unnamed(place, _target(place))
    for path in place.glob(f"{NEW}*"):
        remove(path)
    remove(place / JOURNAL)


def remove(path: Path) -> None:
    """A file, a link (not what it leads to) or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def place_of(target: Path) -> Path:
    """One absolute name for each place: a link at its end stays, the folders above are resolved.

    What is written goes by this name: "absent/../a" is a place, and no path that the system can open. Raises UsageError
    where links lead in a circle.
    """
    target = Path(target)
    try:
        target = target.resolve() if target.name in ("", "..") else target
        return target.parent.resolve() / target.name
    except RuntimeError:  # what pathlib makes of ELOOP
        raise UsageError(
            f"{target} cannot be written: links on the way there lead in a circle.", todo="Choose another place."
        ) from None


def _target(place: Path) -> Path:
    return place.with_name(place.name.removeprefix(".").removesuffix(SUFFIX))


def _locked(place: Path, target: Path) -> int:
    for _ in range(TRIES):
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise UsageError(f"{place} is in the way of {target.name}.", todo="Move it away, or choose another place.")
        place.mkdir(exist_ok=True)
        if (lock := _try(place)) is not None:
            return lock
        time.sleep(PAUSE)
    raise UsageError(
        f"{target} is being written by another run of rope-deploy.",
        exists=f"It holds {place / LOCK}.",
        todo="Wait for it to end, or choose another place.",
    )


def _try(place: Path) -> int | None:
    """The descriptor that holds the lock of `place`; None if another run has it, or has just removed it."""
    try:
        lock = os.open(place / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), (place / LOCK).lstat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        os.close(lock)
        raise EnvironmentMissing(
            f"{place.parent} is on a file system without locks: {error.strerror}.",
            exists="Two runs that write one output at once could not tell.",
            todo="Write to another file system, and copy the result.",
        ) from None
    os.close(lock)
    return None


def _release(place: Path, lock: int) -> None:
    """The lock's file goes while it is held: whoever waits for it sees that it is not the one that lies there."""
    with suppress(OSError):
        empty(place)
        (place / LOCK).unlink()
    os.close(lock)
    with suppress(OSError):
        place.rmdir()


def _sweep(target: Path) -> None:
    """Clear up after dead runs that wrote into the same folder."""
    for place in target.parent.glob(f".*{SUFFIX}"):
        with suppress(OSError, EnvironmentMissing):
            if place.is_dir() and not place.is_symlink() and (lock := _try(place)) is not None:
                _release(place, lock)
    with suppress(OSError):
        remove_older(target)


@contextmanager
def _parents(target: Path) -> Iterator[None]:
    """Folders above `target` that are not there yet, and are made for it, vanish again if it does not come about."""
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        yield
    except BaseException:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        raise
