"""The parent's side of one child: it is started, gets messages, answers, and has ended when its owner is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from rope_deploy.childprocess.interpreter import environment, how_ended, python
from rope_deploy.childprocess.wire_messages import DamagedMessage, Request, Task, receive, send

MODULE = "rope_deploy.childprocess"
LAST_LINES = 8  # of standard error, kept to explain a death
GRACE = 5  # seconds for a child to unwind


class ChildFailed(Exception):
    """No answer came. The text is the end of a sentence whose subject is the work: "ended by SIGSEGV"."""


class ChildDied(ChildFailed):
    """The child ended before it answered. `code` is its return code, None if it was ended because its bytes were no
    answer; `lines` are the last ones on its standard error."""

    def __init__(self, code: int | None, lines: tuple[str, ...] = (), text: str = ""):
        super().__init__(text or f"ended {how_ended(code)}")
        self.code, self.lines = code, lines

    @property
    def was_killed(self) -> bool:
        """SIGKILL, which is how the system ends processes when memory runs out."""
        return self.code == -signal.SIGKILL

    @property
    def last_words(self) -> str:
        """The lines, indented, as a detail of a message."""
        return "\n".join(f"  {line}" for line in self.lines)


class ChildTimedOut(ChildFailed):
    """The answer did not come within `patience` seconds."""

    def __init__(self, patience: float):
        super().__init__(f"takes longer than {patience:.0f} s")
        self.patience = patience


class Child:
    """A new process at one end of a pair of pipes, with `task` on its way to it. `lines`: how many are kept.

    `patience` seconds from its start on, `receive` gives up.
    """

    def __init__(
        self,
        task: Task,
        variables: dict[str, str] | None = None,
        patience: float | None = None,
        lines: int = LAST_LINES,
    ):
        self._process = subprocess.Popen(
            python("-m", MODULE, str(os.getpid())),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment(**(variables or {})),
        )
        self._lines: deque[str] = deque(maxlen=lines)
        self._patience = patience
        self._until = None if patience is None else time.monotonic() + patience
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            self.send(task)
        except BaseException:  # a task that cannot be pickled, or an interrupt
            self.end()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Task | Request) -> None:
        """Write to the child. One that has died is no error here: `receive` says how it ended."""
        with suppress(BrokenPipeError):
            send(self._process.stdin, message)

    def receive(self) -> tuple[str, Any]:
        """The next message. Raises ChildDied, also for damaged bytes, or ChildTimedOut; the child has then ended."""
        try:
            return receive(self._process.stdout, self._until)
        except TimeoutError:
            self.end()
            raise ChildTimedOut(self._patience) from None
        except DamagedMessage as error:
            self.end()
            raise ChildDied(None, tuple(self._lines), "sends what is no answer") from error
        except EOFError:
            self.end(GRACE)
            raise ChildDied(self._process.returncode, tuple(self._lines)) from None

    def end(self, grace: float = 0.0) -> None:
        """The child has ended when this returns: by itself within `grace` seconds, by SIGTERM, else by SIGKILL."""
        self._process.stdin.close()
        self._process.stdout.close()
        if not self._ended(grace):
            self._process.terminate()
            if not self._ended(GRACE):
                self._process.kill()
                self._process.wait()
        self._listener.join()

    def _ended(self, seconds: float) -> bool:
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _listen(self) -> None:
        """Keep the last lines of standard error; a pipe that nobody reads would block the child."""
        with self._process.stderr as stream:
            for line in open(stream.fileno(), "rb", closefd=False):  # noqa: SIM115
                if line.strip():
                    self._lines.append(line.decode(errors="replace").rstrip())


def grace() -> float:
    """Seconds that a child gets to end by itself: it is about to when it has answered, not if we were interrupted."""
    return 1.0 if sys.exc_info()[0] is None else 0.05
