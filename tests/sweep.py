"""Tests of many things alike: `make test` runs a few of each and `make sweeps` the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

# The plainest, and one with two rules.
FAMILIES = ("llama", "gemma3")


def swept(values: Iterable[Any], few: Collection[Any] = FAMILIES) -> list[Any]:
    """`values` as parameters of a test, all but those in `few` marked `sweep`. A tuple's first entry decides."""
    return [
        pytest.param(*_several(value), marks=() if _several(value)[0] in few else pytest.mark.sweep) for value in values
    ]


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
