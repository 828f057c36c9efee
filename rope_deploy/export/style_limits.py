"""What a lowered graph cannot do although its inputs would allow it: this follows from its operators."""

from __future__ import annotations

from rope_deploy.artifact import Limits
from rope_deploy.graph.lower.lower_rotations import Lowered
from rope_deploy.graph.rotating_operators import GROUP_QUERY_ATTENTION


def limits_of(lowered: Lowered, tokens: int | None = None) -> Limits:
    """The limits of a graph: GroupQueryAttention takes lengths where the model had a mask, and lengths say less.

    `tokens` is what the trace was limited to.
    """
    fused = [node for node in lowered.model.graph if node.op_type == GROUP_QUERY_ATTENTION]
    if not fused:
        return Limits(tokens=tokens)
    windowed = any("local_window_size" in node.attributes for node in fused)
    return Limits(
        left_padding=False,
        chunked_prefill_batch=False,
        prompt_positions=False,
        padded_past=not windowed,
        tokens=tokens,
        note="GroupQueryAttention counts real tokens from the front of each row; "
        "export with --no-fused-attention for more.",
    )
