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
    target = absolute_name(target)
    hidden = target.parent / f".{target.name}{SUFFIX}"
    if hidden in _held.get():
        yield hidden
        return
    with disk_errors(target), _parents(target):
        with disk_errors(target, every=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            lock = _locked(hidden, target)
        token = _held.set(_held.get() | {hidden})
        try:
            empty(hidden)
            _sweep(target)
            yield hidden
        finally:
            _held.reset(token)
            _release(hidden, lock)


def empty(hidden: Path) -> None:
    """Remove what a staging folder holds, and weights that were renamed into place although their graph was not."""
    drop_unnamed(hidden, _target(hidden))
    for path in hidden.glob(f"{NEW}*"):
        remove(path)
    remove(hidden / JOURNAL)


def remove(path: Path) -> None:
    """A file, a link (not what it leads to) or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def absolute_name(target: Path) -> Path:
    """The absolute name of a location: a link at its end stays, the folders above are resolved.

    Outputs are written under this name: "absent/../a" names a location, but the system cannot open it. Raises
    UsageError where links lead in a circle.
    """
    target = Path(target)
    try:
        target = target.resolve() if target.name in ("", "..") else target
        return target.parent.resolve() / target.name
    except RuntimeError:  # what pathlib makes of ELOOP
        raise UsageError(
            f"{target} cannot be written: links on the way there lead in a circle.", todo="Choose another place."
        ) from None


def _target(hidden: Path) -> Path:
    return hidden.with_name(hidden.name.removeprefix(".").removesuffix(SUFFIX))


def _locked(hidden: Path, target: Path) -> int:
    for _ in range(TRIES):
        if hidden.is_symlink() or (hidden.exists() and not hidden.is_dir()):
            raise UsageError(f"{hidden} is in the way of {target.name}.", todo="Move it away, or choose another place.")
        hidden.mkdir(exist_ok=True)
        if (lock := _try(hidden)) is not None:
            return lock
        time.sleep(PAUSE)
    raise UsageError(
        f"{target} is being written by another run of rope-deploy.",
        exists=f"It holds {hidden / LOCK}.",
        todo="Wait for it to end, or choose another place.",
    )


def _try(hidden: Path) -> int | None:
    """The descriptor that holds the lock of `hidden`; None if another run has it, or has just removed it."""
    try:
        lock = os.open(hidden / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), (hidden / LOCK).lstat()):
            return lock
    except (BlockingIOError, FileNotFoundError):  # another run has it, or removed it just now
        pass
    except OSError as error:
        os.close(lock)
        raise EnvironmentMissing(
            f"{hidden.parent} is on a file system without locks: {error.strerror}.",
            exists="Two runs that write one output at once could not tell.",
            todo="Write to another file system, and copy the result.",
        ) from None
    os.close(lock)
    return None


def _release(hidden: Path, lock: int) -> None:
    """Remove the lock's file while it is held: a waiting run then sees that its descriptor is of a removed file.

    What cannot be removed stays for the next run, which sweeps.
    """
    with suppress(OSError):
        empty(hidden)
        (hidden / LOCK).unlink()
    os.close(lock)
    with suppress(OSError):
        hidden.rmdir()


def _sweep(target: Path) -> None:
    """Clear up after dead runs that wrote into the same folder. What cannot be removed stays; no run depends on it."""
    for hidden in target.parent.glob(f".*{SUFFIX}"):
        with suppress(OSError, EnvironmentMissing):
            if hidden.is_dir() and not hidden.is_symlink() and (lock := _try(hidden)) is not None:
                _release(hidden, lock)
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
            with suppress(OSError):  # somebody has put something there meanwhile
                parent.rmdir()
        raise
