"""A runtime that answers the same question once.

Cases of a check begin alike, and every style of a model is asked the same: PyTorch's answers are worth keeping.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cached_property
from types import TracebackType
from typing import Self

import numpy as np

from rope_deploy.runtimes.protocol import Arrays, Runtime

ROOM = 1 << 30  # bytes of answers kept


class Remembering:
    """`runtime`, and what it answered so far; when `room` bytes are full, nothing is added.

    What came first stays: another style is asked the same cases in the same order, so that throwing out the oldest
    would throw out each answer right before it is asked for. The arrays are shared: callers do not write to them.
    Only for a runtime that has no memory of its own between calls.
    """

    def __init__(self, runtime: Runtime, room: int = ROOM):
        self._runtime, self._room, self._whole, self._answers = runtime, room, room, {}
        self.name, self.taps = runtime.name, runtime.taps

    @cached_property
    def exact(self) -> Remembering | None:
        """What the runtime gives in a wider type (see `TorchRuntime.exact`), remembered too."""
        inner = getattr(self._runtime, "exact", None)
        return None if inner is None else Remembering(inner, self._whole)

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        """Run once; see `runtimes.base`."""
        return self._once(_digest(feeds, taps), lambda: self._runtime.run(feeds, taps))

    def shaken(self, feeds: Mapping[str, np.ndarray], seed: int) -> Arrays:
        """What the runtime might have given (see `TorchRuntime.shaken`), the same for one seed."""
        return self._once(_digest(feeds, True) + bytes([seed]), lambda: self._runtime.shaken(feeds, seed))

    def _once(self, key: bytes, ask: Callable[[], Arrays]) -> Arrays:
        if key not in self._answers:
            answer = ask()
            size = sum(value.nbytes for value in answer.values())
            if size > self._room:
                return answer
            self._room -= size
            self._answers[key] = answer
        return dict(self._answers[key])

    def untouched(self, result: str) -> Runtime | None:
        """See `TorchRuntime.untouched`, which remembers by itself."""
        ask = getattr(self._runtime, "untouched", None)
        return None if ask is None else ask(result)

    def __enter__(self) -> Self:
        self._runtime.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answers.clear()
        self.__dict__.pop("exact", None)
        self._runtime.__exit__(kind, error, trace)


def _digest(feeds: Mapping[str, np.ndarray], taps: bool) -> bytes:
    made = hashlib.blake2b(b"taps" if taps else b"", digest_size=16)
    for name, value in sorted(feeds.items()):
        made.update(f"{name} {value.dtype} {value.shape} ".encode())
        made.update(np.ascontiguousarray(value).data)
    return made.digest()
