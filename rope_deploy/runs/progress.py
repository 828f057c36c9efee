"""The type of function that a run calls with each step as it begins, for somebody to show."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]


def silent(step: str) -> None:
    """Show nothing."""
