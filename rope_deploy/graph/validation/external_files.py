"""Find the files that hold the tensors of a graph: which they may be, how large they are, and what is in them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rope_deploy.graph.validation.unsound_error import Unsound, quoted_name


class ExternalFiles:
    """The files beside one graph; each is looked at once.

    A name in the graph is the name of a file in its folder. The file may be a link, as in the cache of Hugging Face,
    but it leads into the graph's folder, or into the one that holds the graph itself when its own link is followed.
    ONNX Runtime has the same rule.
    """

    def __init__(self, graph: Path):
        self.folder = Path(graph).parent
        self._real = os.path.realpath(self.folder), os.path.dirname(os.path.realpath(graph))
        self._known: dict[str, tuple[str, int | None]] = {}

    @property
    def missing(self) -> list[str]:
        """Names of files that the graph needs and that are not there."""
        return sorted(name for name, (_, size) in self._known.items() if size is None)

    @property
    def names(self) -> list[str]:
        return sorted(self._known)

    def find(self, location: str) -> tuple[str, int | None]:
        """(path with all links followed, size in bytes; None if there is no such file). Raises Unsound."""
        name = os.path.normpath(location) if location else ""
        if name not in self._known:
            self._known[name] = self._find(name, location)
        return self._known[name]

    def read(self, path: str, offset: int, count: int) -> bytes | None:
        """`count` bytes from `offset` on of the file at `path`, which `find` gave; None if it cannot be opened.

        Raises Unsound if the file ends before: it was long enough when `find` looked at it.
        """
        try:
            with open(path, "rb") as stream:
                stream.seek(offset)
                content = stream.read(count)
        except OSError:
            return None
        if len(content) != count:
            name = quoted_name(os.path.basename(path))
            raise Unsound(f"its weights in {name} end before byte {offset + count}; the file was cut short meanwhile")
        return content

    def _find(self, name: str, location: str) -> tuple[str, int | None]:
        if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise Unsound(
                f"its weights are in {quoted_name(location)}, outside its folder; only files beside it are read"
            )
        try:
            path = os.path.realpath(self.folder / name, strict=True)
            found = os.stat(path)
        except FileNotFoundError:
            return str(self.folder / name), None
        except OSError as error:
            reason = (error.strerror or "it cannot be opened").lower()
            raise Unsound(f"its weights in {quoted_name(name)} cannot be read: {reason}") from None
        if not stat.S_ISREG(found.st_mode):
            raise Unsound(f"its weights are in {quoted_name(name)}, which is no regular file")
        if os.path.dirname(path) not in self._real:
            raise Unsound(f"its weights are in {quoted_name(name)}, a link that leads out of its folder; copy it there")
        return path, found.st_size
