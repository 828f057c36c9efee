"""The processes that the product starts, as forks of this one: an interpreter that imports libraries costs seconds."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from rope_deploy.childprocess import child, serve, staying_here
from rope_deploy.graph.validation import shapes


@contextmanager
def cheap_children() -> Iterator[None]:
    """Runtimes open in a fork of this process; what only isolates a crash or a hang happens in this process itself."""
    replaced = SimpleNamespace(Popen=ForkedPython, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)
    with ExitStack() as stack:
        stack.enter_context(staying_here())
        stack.enter_context(patch.object(shapes, "run_in_fork", lambda function: function()))
        stack.enter_context(patch.object(child, "subprocess", replaced))
        yield


class ForkedPython:
    """`subprocess.Popen` of the product's child, with three pipes, as far as `rope_deploy.childprocess` uses it."""

    def __init__(self, command: list[str], **_: Any):
        down, up, errors = os.pipe(), os.pipe(), os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _be_the_child(int(command[-1]), down[0], up[1], errors[1])
        for one in (down[0], up[1], errors[1]):
            os.close(one)
        self.stdin, self.stdout = os.fdopen(down[1], "wb", 0), os.fdopen(up[0], "rb", 0)
        self.stderr = os.fdopen(errors[0], "rb", 0)

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if timeout is not None and not self._ends(timeout):
                raise subprocess.TimeoutExpired("the child", timeout)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def _ends(self, seconds: float) -> bool:
        handle = os.pidfd_open(self.pid)
        try:
            return bool(select.select([handle], [], [], seconds)[0])
        finally:
            os.close(handle)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)


def _be_the_child(parent: int, reads: int, writes: int, says: int) -> None:
    try:
        for number, one in enumerate((reads, writes, says)):
            os.dup2(one, number)
        os.closerange(3, 256)  # the other ends of the pipes: whoever reads must see the end
        serve.main(parent)
    finally:
        os._exit(1)
