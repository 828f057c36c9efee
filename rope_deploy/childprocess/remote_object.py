"""An object that stays open in a child and answers many calls."""

from __future__ import annotations

from typing import Any

from rope_deploy.childprocess.child import Child, ChildFailed
from rope_deploy.childprocess.wire_messages import Request, Task


class RemoteObject:
    """What a function of ours, "package.module:name", opens in a child: a context manager that the child enters.

    A child that has died is replaced at the next call: the function opens its object again.

    Raises what the function raises, ChildDied if the child dies of it.
    """

    def __init__(self, function: str, **keywords: Any):
        self._task = Task(function, keywords=keywords, keeps=True)
        self._child: Child | None = None
        self._open()

    @property
    def pid(self) -> int | None:
        """Of the child that lives now."""
        return None if self._child is None else self._child.pid

    def get(self, name: str) -> Any:
        """The attribute `name`; True for a method, None if there is no such attribute."""
        return self._ask(Request(name))

    def call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """What the method `name` returns. Raises what it raises, ChildDied if the child dies of it."""
        return self._ask(Request(name, arguments, keywords))

    def close(self) -> None:
        """The child has ended when this returns."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def _open(self) -> None:
        self._child = Child(self._task)
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def _ask(self, request: Request) -> Any:
        if self._child is None:
            self._open()
        try:
            self._child.send(request)
        except BaseException:  # an interrupt in the middle of a message: the rest of it can only confuse
            self.close()
            raise
        return self._answer()

    def _answer(self) -> Any:
        try:
            kind, value = self._child.receive()
        except ChildFailed:
            self._child = None
            raise
        except BaseException:  # as above
            self.close()
            raise
        if kind == "error":
            raise value
        return value
