"""An object that stays open and answers calls, as `childprocess.RemoteObject` does, but in this process.

A child takes most of a second to start. Tests marked `children` have real ones, and so has everything but a sound
runtime: a test's own opener crashes, and the one for any file limits the process it is in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rope_deploy.childprocess import RemoteObject, Task
from rope_deploy.childprocess.serve import portable
from rope_deploy.childprocess.wire_messages import Request
from rope_deploy.runtimes.targets import OPENER


def opened(function: str, **keywords: Any) -> LocalObject | RemoteObject:
    """In place of the class `RemoteObject`."""
    return (LocalObject if function == OPENER else RemoteObject)(function, **keywords)


class LocalObject:
    """See `RemoteObject`. Errors are those that a child would send."""

    def __init__(self, function: str, **keywords: Any):
        manager = _tried(lambda: Task(function, keywords=keywords, keeps=True).run(None))
        self._opened = _tried(manager.__enter__)

    def get(self, name: str) -> Any:
        return self._ask(Request(name))

    def call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        return self._ask(Request(name, arguments, keywords))

    def close(self) -> None:
        self._opened.__exit__(None, None, None)

    def _ask(self, request: Request) -> Any:
        return _tried(lambda: request.of(self._opened))


def _tried(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        raise portable(error) from None
