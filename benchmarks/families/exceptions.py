"""What the rules of `shrink` get wrong for a family, and why. Everything not here is handled by rules alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Exceptional:
    """`settings` replace what the rules say; `reason` why they must."""

    reason: str
    settings: Mapping[str, Any] = field(default_factory=dict)


EXCEPTIONS: Mapping[str, Exceptional] = {
}


def settings_of(name: str) -> Mapping[str, Any]:
    return EXCEPTIONS[name].settings if name in EXCEPTIONS else {}
