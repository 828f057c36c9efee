"""How far a table may be from its rule by rounding alone."""

from __future__ import annotations

from numpy.typing import DTypeLike

# PyTorch's fp32 cosine may differ from the correctly rounded one by an ulp, and attention_scaling by another.
FP32_SLACK = 2.5e-7


def table_rounding(dtype: DTypeLike) -> float:
    """Of an entry of size 1: half an ulp of the table's type, and the slack of fp32 arithmetic."""
    import ml_dtypes  # numpy itself does not know bfloat16

    return float(ml_dtypes.finfo(dtype).eps) / 2 + FP32_SLACK
