"""What the manifest of a lowered graph says that the graph cannot do."""

from __future__ import annotations

from rope_deploy.artifact import Limits
from rope_deploy.graph.lower.lower_rotations import Lowered
from rope_deploy.graph.operator_limits import OPERATOR_LIMITS, limited_values


def limits_of(lowered: Lowered, tokens: int | None = None) -> Limits:
    """The limits of a graph, which follow from its operators. `tokens` is what the trace was limited to."""
    limited = limited_values(lowered.model.graph)
    notes = dict.fromkeys(limit.note for limit in OPERATOR_LIMITS if limit.name in limited)
    return Limits(**dict.fromkeys(limited, False), tokens=tokens, note=" ".join(notes))
