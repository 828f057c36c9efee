"""Upper bounds that no model exceeds. A larger number is a mistake that would cost hours before it shows."""

from __future__ import annotations

from rope_deploy.errors import UsageError

# Models compute angles in fp32, which cannot tell neighbouring positions apart above this number.
MOST_POSITIONS = 2**24
MOST_LAYERS = 10_000


def require_positions(count: int, stated_by: str) -> None:
    """Raise UsageError for more positions than fp32 tells apart."""
    if count > MOST_POSITIONS:
        raise UsageError(
            f"{count} positions are too many ({stated_by}).",
            exists=f"Angles are computed in fp32, which tells {MOST_POSITIONS} positions apart.",
            todo="Give --max-position N with the length that the model is to serve.",
        )


def require_layers(count: int, stated_by: str) -> None:
    """Raise UsageError for more layers than any model has."""
    if count > MOST_LAYERS:
        raise UsageError(f"{stated_by} states {count} layers; no model has more than {MOST_LAYERS}.")
