"""What disks do: be full, refuse, and keep what was written only once they are asked to."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from rope_deploy.errors import EnvironmentMissing, UsageError

SUFFIX = ".rope-deploy"  # of the hidden folders in which outputs are made
FULL, CLOSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), (errno.EROFS, errno.EACCES, errno.EPERM)
AT_WORKING_FOLDER, EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)


@contextmanager
def disk_errors(target: Path, *, every: bool = False) -> Iterator[None]:
    """Raise our errors for a full or read-only disk, or with `every` for any OSError; they name the location."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"The name of {target} is too long.", todo="Choose a shorter one.") from None
        # numpy's own writer reports a full disk as "problem writing element …", without a number.
        unnumbered = error.errno is None and "writing" in str(error)
        closed = error.errno in CLOSED and _is_beside(error.filename, target)
        if error.errno not in FULL and not closed and not unnumbered and not every:
            raise
        exists, todo = "Nothing was left behind.", "Choose another folder, or see that this one can be written to."
        if error.errno in FULL or unnumbered:
            free = shutil.disk_usage(next(parent for parent in target.absolute().parents if parent.exists())).free
            exists, todo = f"{free / 1e6:.0f} MB are free there. {exists}", "Free some space or choose another folder."
        raise EnvironmentMissing(
            f"Could not write {target}: {error.strerror or error}.", exists=exists, todo=todo
        ) from None


def _is_beside(name: object, target: Path) -> bool:
    """Whether what was refused is where `target` is written, or above, and not something else that was read."""
    if not isinstance(name, str | bytes):
        return True
    path, location = Path(os.path.abspath(os.fsdecode(name))), Path(os.path.abspath(target))
    return location.is_relative_to(path) or any(part.endswith(SUFFIX) for part in path.parts)


def sync(path: Path) -> None:
    """Return once `path`, and all that is in it, is on the disk: a name must not outlive a crash that its content
    does not."""
    for folder, _, names in os.walk(path):
        for name in names:
            _sync(os.path.join(folder, name))
        _sync(folder)
    if not path.is_dir():
        _sync(path)


@contextmanager
def syncing(path: Path) -> Iterator[None]:
    """Let `path` be written to the disk while the block reads it: syncing waits, and takes no processor."""
    with ThreadPoolExecutor(1) as pool:
        synced = pool.submit(sync, path)
        yield
        synced.result()


def sync_name(path: Path) -> None:
    """Return once the name of `path`, old or new, is on the disk."""
    _sync(path.parent)


def _sync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot be asked
            raise
    finally:
        os.close(descriptor)


def exchange(one: Path, other: Path) -> None:
    """Exchange two names in one step, whatever they are. Raises OSError where the system cannot."""
    sys.audit("rope_deploy.exchange", str(one), str(other))
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if rename(AT_WORKING_FOLDER, os.fsencode(one), AT_WORKING_FOLDER, os.fsencode(other), EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
