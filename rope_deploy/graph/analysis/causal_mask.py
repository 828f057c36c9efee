"""What an attention mask lets through, found by evaluating it.

Fused attention operators take "causal, with this window" as attributes instead of a mask. Whether a traced mask is
that, and nothing more, is decided on a few calls with padding, not by the way it was built.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.analysis.dummy_inputs import dummy_inputs
from rope_deploy.graph.analysis.evaluate import NotEvaluable, evaluate

# (batch, sequence, past): a first prompt, a later chunk, one step.
PROBES = ((2, 6, 0), (2, 4, 5), (2, 1, 7))


@dataclass(frozen=True)
class CausalMask:
    """Each query sees itself and at most `window` − 1 tokens before it (all of them if None), padding excepted."""

    window: int | None


def as_causal(mask: ir.Value, graph: ir.Graph, max_position: int) -> CausalMask | None:
    """The causal mask that `mask`, bool [B, 1, S, T], always equals; None if it is anything else."""
    try:
        last = _evaluate(mask, graph, np.ones((1, max_position), np.int64), 1)
        seen = int(last.sum())
        window = seen if seen < max_position else None
        for batch, sequence, past in PROBES:
            real = np.ones((batch, past + sequence), np.int64)
            real[1, -max(1, sequence // 3) :] = 0
            got = _evaluate(mask, graph, real, sequence)
            if not np.array_equal(got, expected(real, sequence, window)):
                return None
        # Blocks of a fixed size (chunked attention) look like a window from the last position alone.
        across = np.ones((1, (window or 0) + 3), np.int64)
        if not np.array_equal(_evaluate(mask, graph, across, 3), expected(across, 3, window)):
            return None
    except NotEvaluable:
        return None
    return CausalMask(window)


def expected(real: np.ndarray, sequence: int, window: int | None) -> np.ndarray:
    """The mask [B, 1, S, T] that `CausalMask` describes, for the attention mask `real` [B, T]."""
    total = real.shape[1]
    query = np.arange(total - sequence, total)[:, None]
    key = np.arange(total)[None, :]
    seen = key <= query
    if window is not None:
        seen &= key > query - window
    return seen[None, None] & real.astype(bool)[:, None, None, :]


def _evaluate(mask: ir.Value, graph: ir.Graph, real: np.ndarray, sequence: int) -> np.ndarray:
    batch, total = real.shape
    sizes = {"batch": batch, "sequence": sequence, "past": total - sequence, "total": total}
    inputs = {v: real if v.name == "attention_mask" else a for v, a in dummy_inputs(graph, sizes).items()}
    (array,) = evaluate([mask], inputs)
    return np.broadcast_to(array, (batch, 1, sequence, total))
