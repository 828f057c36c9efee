"""A runtime in a process of its own, so that its crash is an error of one call and not the end of the run."""

from __future__ import annotations

import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np

from rope_deploy import errors
from rope_deploy.childprocess import environment, how_ended, python
from rope_deploy.errors import ConfigError, InternalFault, RopeDeployError, RuntimeCrashed
from rope_deploy.runtimes.protocol import Arrays
from rope_deploy.runtimes.wire import receive, send

CHILD = "rope_deploy.runtimes.child"
LAST_LINES = 8


class Isolated:
    """An open runtime behind a pipe. Made by `open_isolated`; a dead process is replaced at the next call."""

    def __init__(self, name: str, opener: str, arguments: Mapping[str, Any]):
        self._opener, self._arguments = opener, dict(arguments)
        self._said: deque[str] = deque(maxlen=LAST_LINES)
        self._process: subprocess.Popen[bytes] | None = None
        self.name = name
        self._verbs = self._start()
        self.taps = self._verbs["taps"]

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        """Run once; see `runtimes.base`. Raises what the runtime raises, RuntimeCrashed if it died of the call."""
        return self._asked({"verb": "run", "taps": taps}, feeds)

    @property
    def unguarded(self) -> Callable[[Mapping[str, np.ndarray]], Arrays] | None:
        """See `OrtRuntime.unguarded`; None for a runtime that has no such thing."""
        return partial(self._asked, {"verb": "unguarded"}) if self._verbs["unguarded"] else None

    def _asked(self, call: Mapping[str, Any], feeds: Mapping[str, np.ndarray]) -> Arrays:
        if self._process is None:
            self._start()
        return self._exchange(call, feeds)[1]

    def _start(self) -> dict[str, Any]:
        self._said.clear()
        self._process = subprocess.Popen(
            python("-m", CHILD),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        self._listener = threading.Thread(target=_listen, args=(self._process.stderr, self._said), daemon=True)
        self._listener.start()
        try:
            fields, _ = self._exchange({"opener": self._opener, "arguments": self._arguments}, {})
        except BaseException:
            self._end()
            raise
        return fields

    def _exchange(self, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], Arrays]:
        try:
            with suppress(BrokenPipeError):  # it may have said why before it died
                send(self._process.stdin, fields, arrays)
            answer, found = receive(self._process.stdout)
        except EOFError:
            raise self._crash() from None
        except BaseException:  # an interrupt in the middle of a message: the rest of it can only confuse
            self._end()
            raise
        if answer["event"] == "error":
            raise _raised(answer)
        return answer, found

    def _crash(self) -> RuntimeCrashed:
        code = self._process.wait()
        self._end()
        last = "\n".join(f"  {line.rstrip()}" for line in self._said)
        return RuntimeCrashed(
            f"The runtime {self.name} ended {how_ended(code)}.",
            exists=f"Its last words:\n{last}" if last else "",
            todo="The system ends processes this way when memory runs out." if code == -9 else "",
        )

    def _end(self) -> None:
        """The process has ended when this returns, however it was."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        process.kill()
        process.wait()
        self._listener.join()
        process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()


def open_isolated(name: str, opener: str, arguments: Mapping[str, Any]) -> Isolated:
    """Call `opener`, "module:function", with JSON-safe `arguments` in a new process and keep what it opens there.

    Raises what the opener raises, RuntimeCrashed if it dies.
    """
    return Isolated(name, opener, arguments)


def _listen(stream: Any, said: deque[str]) -> None:
    for line in stream:
        if line.strip():
            said.append(line.decode(errors="replace"))


def _raised(answer: Mapping[str, Any]) -> Exception:
    """The error of the other process as it would have been in this one."""
    kind = getattr(errors, answer["kind"], None)
    if kind is None or not issubclass(kind, RopeDeployError):
        return MemoryError() if answer["kind"] == "MemoryError" else InternalFault.of(answer["kind"], answer["asked"])
    parts = {"exists": answer["exists"], "todo": answer["todo"]}
    if issubclass(kind, ConfigError):
        return kind(answer["asked"], answer["faults"], **parts)
    return kind(answer["asked"], **parts)
