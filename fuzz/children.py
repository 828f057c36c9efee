"""The processes that the product starts, as forks of this one: an interpreter that imports libraries costs seconds."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from rope_deploy.childprocess import staying_here
from rope_deploy.graph.validation import shapes
from rope_deploy.runtimes import isolated


@contextmanager
def cheap_children() -> Iterator[None]:
    """Runtimes open in a fork of this process; what only isolates a crash or a hang happens in this process itself."""
    with ExitStack() as stack:
        stack.enter_context(staying_here())
        stack.enter_context(patch.object(shapes, "run_in_fork", lambda function: function()))
        stack.enter_context(patch.object(isolated, "subprocess", SimpleNamespace(Popen=ForkedPython, PIPE=-1)))
        yield


class ForkedPython:
    """`subprocess.Popen` of `python ... -m MODULE` with three pipes, as far as `rope_deploy.runtimes` uses it."""

    def __init__(self, command: list[str], **_: Any):
        down, up, said = os.pipe(), os.pipe(), os.pipe()
        self.returncode: int | None = None
        self._pid = os.fork()
        if self._pid == 0:
            _be_the_module(command[command.index("-m") + 1], down[0], up[1], said[1])
        for one in (down[0], up[1], said[1]):
            os.close(one)
        self.stdin, self.stdout = os.fdopen(down[1], "wb"), os.fdopen(up[0], "rb")
        self.stderr = os.fdopen(said[0], "rb")

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self._pid, signal.SIGKILL)


def _be_the_module(name: str, reads: int, writes: int, says: int) -> None:
    code = 1
    try:
        for number, one in enumerate((reads, writes, says)):
            os.dup2(one, number)
        os.closerange(3, 256)  # the other ends of the pipes: whoever reads must see the end
        code = importlib.import_module(name).main()
    finally:
        os._exit(code)
