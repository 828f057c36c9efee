"""Read JSON that somebody else wrote: a regular file of a bounded size, text, one value a key, not too deep."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rope_deploy.errors import UsageError

LARGEST = 1 << 28  # bytes; a report of a large check has a few millions
LARGEST_UNPACKED = 1 << 30
DEEPEST = 100
CONFIG_NAME = "config.json"  # a model's configuration, in the format of Hugging Face
LONGEST_NUMBER = 300  # digits; longer ones are no numbers of any kind here

Fail = Callable[[str], UsageError]


def read_bytes(path: Path, most: int = LARGEST) -> bytes:
    """The content of a regular file; a pipe or a device is never opened.

    Raises UsageError (it is none, or larger than `most`), FileNotFoundError and PermissionError.
    """
    if (size := require_regular(path)) > most:
        raise UsageError(f"{path} has {size} bytes; {most} at most are read.")
    return Path(path).read_bytes()


def require_regular(path: Path) -> int:
    """The size of a regular file. Raises UsageError for anything else, FileNotFoundError and PermissionError."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, PermissionError):
        raise
    except (OSError, ValueError):
        raise UsageError(f"{path} cannot be opened: its name or a link leads nowhere.") from None
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{path} is {'a folder' if stat.S_ISDIR(found.st_mode) else 'no regular file'}.")
    return found.st_size


def require_small(archive: zipfile.ZipFile, path: Path, most: int = LARGEST_UNPACKED) -> None:
    """Raise UsageError for an archive that unpacks to more than `most` bytes."""
    if (size := sum(entry.file_size for entry in archive.infolist())) > most:
        raise UsageError(f"{path} unpacks to {size} bytes; {most} at most are read.")


def parse_json(content: bytes) -> Any:
    """The value that `content` states. Raises ValueError with one sentence on what is wrong."""
    try:
        read = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_unique, parse_int=_whole)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        what = error.msg.lower().removesuffix(" at")
        raise ValueError(f"{what} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError(f"it has more than {DEEPEST} lists or mappings within each other") from None
    _require_plain(read)
    return read


@dataclass(frozen=True)
class _TooLong:
    """Stands for a whole number of so many digits until it is known which key has it."""

    digits: int


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    for name, value in found.items():
        if isinstance(value, _TooLong):
            raise ValueError(f"{name[:60]!r} is a number of {value.digits} digits")
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"it states {twice[:60]!r} twice")
    return found


def _whole(text: str) -> int | _TooLong:
    return int(text) if len(text) <= LONGEST_NUMBER else _TooLong(len(text))


def _require_plain(value: Any) -> None:
    layer, depth = [value], 0
    while layer:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"it has more than {DEEPEST} lists or mappings within each other")
        if long := next((one for one in layer if isinstance(one, _TooLong)), None):
            raise ValueError(f"it holds a number of {long.digits} digits")
        inside = [one.values() if isinstance(one, dict) else one for one in layer if isinstance(one, dict | list)]
        layer = [item for items in inside for item in items if isinstance(item, dict | list | _TooLong)]
