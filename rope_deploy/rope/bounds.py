"""What no model reaches: numbers above these are a mistake, and would be worked on for hours before it shows."""

from __future__ import annotations

from rope_deploy.errors import UsageError

# From here on fp32, in which models work out their angles, does not tell one position from the next.
MOST_POSITIONS = 2**24
MOST_LAYERS = 10_000


def require_positions(count: int, said_by: str) -> None:
    """Raise UsageError for more positions than fp32 tells apart."""
    if count > MOST_POSITIONS:
        raise UsageError(
            f"{count} positions are too many ({said_by}).",
            exists=f"Angles are worked out in fp32, which tells {MOST_POSITIONS} positions apart.",
            todo="Give --max-position N with the length that the model is to serve.",
        )


def require_layers(count: int, said_by: str) -> None:
    """Raise UsageError for more layers than any model has."""
    if count > MOST_LAYERS:
        raise UsageError(f"{said_by} states {count} layers; no model has more than {MOST_LAYERS}.")
