"""A runtime in a process of its own, so that its crash is an error of one call and not the end of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np

from rope_deploy.childprocess import ChildDied, RemoteObject
from rope_deploy.errors import InternalFault, RopeDeployError, RuntimeCrashed
from rope_deploy.runtimes.protocol import Arrays


class Isolated:
    """An open runtime behind a pipe. Made by `open_isolated`; a dead process is replaced at the next call."""

    def __init__(self, name: str, opener: str, arguments: Mapping[str, Any]):
        self.name = name
        try:
            self._remote = RemoteObject(opener, **arguments)
            self.taps = self._remote.get("taps")
            self._has_unguarded = self._remote.get("unguarded")
        except Exception as error:
            self._fail(error)

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        """Run once; see `runtimes.protocol`. Raises what the runtime raises, RuntimeCrashed if it died of the call."""
        return self._call("run", feeds, taps)

    @property
    def unguarded(self) -> Callable[[Mapping[str, np.ndarray]], Arrays] | None:
        """See `OrtRuntime.unguarded`; None for a runtime that has no such method."""
        return (lambda feeds: self._call("unguarded", feeds)) if self._has_unguarded else None

    def _call(self, method: str, feeds: Mapping[str, np.ndarray], *arguments: Any) -> Arrays:
        try:
            return self._remote.call(method, dict(feeds), *arguments)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        """Raise what `error` of the child means here; an exception that nobody expected is a fault of ours."""
        if isinstance(error, ChildDied):
            raise RuntimeCrashed(
                f"The runtime {self.name} {error}.",
                exists=f"Its last words:\n{error.last_words}" if error.lines else "",
                todo="The system ends processes this way when memory runs out." if error.was_killed else "",
            ) from None
        if isinstance(error, (RopeDeployError, MemoryError)):
            raise error
        raise InternalFault.of(type(error).__name__, str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remote.close()


def open_isolated(name: str, opener: str, arguments: Mapping[str, Any]) -> Isolated:
    """Call `opener`, "module:function", with picklable `arguments` in a new process and keep what it opens there.

    Raises what the opener raises, RuntimeCrashed if it dies.
    """
    return Isolated(name, opener, arguments)
