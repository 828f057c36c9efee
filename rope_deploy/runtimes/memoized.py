"""A reference that keeps its results and runs each call once.

Cases of a check begin with the same calls, and every style of a model gets the same cases: PyTorch's results are worth
keeping.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cached_property
from types import TracebackType
from typing import Self

import numpy as np

from rope_deploy.runtimes.protocol import Arrays, Measurable, Reference

ROOM = 1 << 30  # bytes of results kept


class Memoized:
    """`runtime` with its results so far; when `room` bytes are full, nothing is added.

    The first results stay: another style gets the same calls in the same order, so that dropping the oldest would drop
    each result right before it is needed. The arrays are shared: callers do not write to them. Only for a runtime that
    keeps nothing between calls.
    """

    def __init__(self, runtime: Reference, room: int = ROOM):
        self._runtime, self._room, self._whole, self._results = runtime, room, room, {}
        self.name, self.taps = runtime.name, runtime.taps

    @cached_property
    def exact(self) -> Memoized | None:
        """What the runtime computes in a wider type (see `TorchRuntime.exact`), memoized too."""
        inner = self._runtime.exact
        return None if inner is None else Memoized(inner, self._whole)

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        """Run once; see `runtimes.protocol`."""
        return self._once(_digest(feeds, taps), lambda: self._runtime.run(feeds, taps))

    def perturbed(self, feeds: Mapping[str, np.ndarray], seed: int) -> Arrays:
        """The result with perturbed roundings (see `TorchRuntime.perturbed`), the same for one seed."""
        return self._once(_digest(feeds, True) + bytes([seed]), lambda: self._runtime.perturbed(feeds, seed))

    def _once(self, key: bytes, run: Callable[[], Arrays]) -> Arrays:
        if key not in self._results:
            result = run()
            size = sum(value.nbytes for value in result.values())
            if size > self._room:
                return result
            self._room -= size
            self._results[key] = result
        return dict(self._results[key])

    def untouched(self, result: str) -> Measurable | None:
        """See `TorchRuntime.untouched`, which memoizes by itself."""
        return self._runtime.untouched(result)

    def __enter__(self) -> Self:
        self._runtime.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._results.clear()
        self.__dict__.pop("exact", None)
        self._runtime.__exit__(kind, error, trace)


def _digest(feeds: Mapping[str, np.ndarray], taps: bool) -> bytes:
    made = hashlib.blake2b(b"taps" if taps else b"", digest_size=16)
    for name, value in sorted(feeds.items()):
        made.update(f"{name} {value.dtype} {value.shape} ".encode())
        made.update(np.ascontiguousarray(value).data)
    return made.digest()
