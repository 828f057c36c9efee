"""The position of each token, derived from the attention mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def positions_from_mask(attention_mask: NDArray[Any], sequence: int | None = None) -> NDArray[np.int64]:
    """Positions of the last `sequence` tokens (all of them if None): cumsum(mask) − 1, at least 0.

    attention_mask: [batch, total], 1 = real token; result: int64 [batch, sequence]. Padding on the left does not
    count, so the first real token has position 0. A padded token gets a position inside the table, and nothing
    attends to it (transformers' generate gives it 0).
    """
    mask = np.asarray(attention_mask)
    positions = np.maximum(np.cumsum(mask != 0, axis=-1, dtype=np.int64) - 1, 0)
    return positions if sequence is None else positions[:, positions.shape[-1] - sequence :]


def longest(position_ids: NDArray[Any]) -> int:
    """The sequence length transformers derives from positions to choose length-dependent frequencies: max + 1."""
    return int(np.max(position_ids)) + 1
