"""Contexts that are entered once, however many blocks ask for them at the same time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any


@dataclass
class _Held:
    stack: ExitStack
    value: Any
    holders: int = 1


_held: dict[Hashable, _Held] = {}
_lock = RLock()


@contextmanager
def held_once(key: Hashable, make: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    """Inside the block the context of `key` is entered; yields what entering it gave.

    The first of several blocks enters it and the last one leaves it, in whatever order they end: restoring what the
    first block found while a second one goes on would take it away from that one.
    """
    with _lock:
        if (held := _held.get(key)) is None:
            stack = ExitStack()
            held = _held[key] = _Held(stack, stack.enter_context(make()))
        else:
            held.holders += 1
    try:
        yield held.value
    finally:
        with _lock:
            held.holders -= 1
            if not held.holders:
                del _held[key]
                held.stack.close()
