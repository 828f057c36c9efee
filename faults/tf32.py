"""What a tensor core keeps of fp32: mistakes are planted with it.

The diagnosis has a function of its own (`rope_deploy.diagnosis.precision_mistakes`): what is planted must not come from
the product that is judged by it.
"""

from __future__ import annotations

import numpy as np


def tf32(array: np.ndarray) -> np.ndarray:
    """fp32 with ten bits behind the leading one, to nearest even."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    kept = bits + 0x0FFF + ((bits >> 13) & 1)
    return (kept & np.uint32(0xFFFFE000)).view(np.float32)
