"""What killed runs of earlier versions left: `.NAME.LETTERS.tmp` and `.old`, which no lock tells from live ones."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from rope_deploy.artifact.file_names import MANIFEST_NAME, MODEL_NAME
from rope_deploy.errors import UsageError
from rope_deploy.safe_reading import parse_json, read_bytes

# Eight digits are a date: whoever wrote `.model.20261130.old` by hand means to keep it.
OLDER = re.compile(r"\.(?P<name>.+)\.(?!\d{8}\.)[0-9a-z_]{8}\.(?P<kind>tmp|old)")


def remove_older(target: Path) -> None:
    """Remove them beside `target`: unfinished files of its name, and unfinished or replaced artifacts of any.

    A replaced artifact stays where it is the only one left, and so does whatever holds anything of somebody else's.
    """
    for path in target.parent.glob(".*"):
        if (match := OLDER.fullmatch(path.name)) is None or path.is_symlink():
            continue
        unfinished = match["kind"] == "tmp"
        if path.is_file():
            if unfinished and match["name"] == target.name:
                path.unlink()
        elif (unfinished or path.with_name(match["name"]).exists()) and _is_ours(path, match["name"]):
            shutil.rmtree(path)


def _is_ours(folder: Path, name: str) -> bool:
    """An artifact with nothing that its manifest does not list, or the beginning of an artifact or a rewritten file."""
    inside = list(folder.iterdir())
    names = {path.name for path in inside}
    if not all(path.is_file() and not path.is_symlink() for path in inside):
        return False
    if MANIFEST_NAME in names:
        try:
            return names <= {MANIFEST_NAME, *parse_json(read_bytes(folder / MANIFEST_NAME))["files"]}
        except (ValueError, LookupError, TypeError, UsageError):
            return False
    begun = {MODEL_NAME, f"{MODEL_NAME}.data", name, f"{name}.data"}
    return folder.name.endswith(".tmp") and (not names or bool(names & begun))
