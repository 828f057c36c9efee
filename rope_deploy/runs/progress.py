"""How a run says what it is doing: a function that is called with each step as it begins."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]


def silent(step: str) -> None:
    """Take a step and show nothing."""
