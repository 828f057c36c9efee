"""Mistakes of precision: angles, frequencies or tables in a type too short for them (RD5xx)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import ml_dtypes
import numpy as np

from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.hypothesis import AngleFunction, CosSin, Mistake
from rope_deploy.rope import RopeSpec, by_pair, from_angles

Rounding = Callable[[np.ndarray], np.ndarray]


def _to_dtype(dtype) -> Rounding:
    def rounded(x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return x.astype(np.float32).astype(dtype).astype(np.float32)

    return rounded


def _to_float32(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32)


def _tf32(x: np.ndarray) -> np.ndarray:
    """fp32 rounded to the 10 mantissa bits that a tensor core multiplies in TF32."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & 0xFFFFE000).astype(np.uint32).view(np.float32)


def _tf32_cut(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.float32).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


HALVES = {"bfloat16": _to_dtype(ml_dtypes.bfloat16), "float16": _to_dtype(np.float16)}


def precision_mistakes(evidence: Evidence) -> Iterator[Mistake]:
    """A shorter type at each step of the arithmetic of a table."""

    def rounded(code: str, explanation: str, **steps: Rounding) -> Mistake:
        return Mistake(code, explanation, replace(evidence.stated, angle_function=_rounded(evidence.spec, **steps)))

    # In this order: where frequencies are not tiny, float16 and TF32 keep the same bits of them.
    for name, half in HALVES.items():
        yield rounded("RD503", f"cos and sin were rounded to {name}.", table=half)
        for table in (_to_float32, half):
            yield rounded("RD504", f"inv_freq was rounded to {name}.", frequency=half, table=table)
    for tf32 in (_tf32, _tf32_cut):
        yield rounded("RD502", "Positions and inv_freq went through a product in TF32.", position=tf32, frequency=tf32)
    for name, half in HALVES.items():
        for table in (_to_float32, half):
            yield rounded("RD501", f"The angles were rounded to {name}.", angle=half, table=table)
            yield rounded("RD501", f"Positions were rounded to {name}.", position=half, table=table)
            both = f"Positions and inv_freq were multiplied in {name}."
            yield rounded("RD501", both, position=half, frequency=half, table=table)
            yield rounded("RD501", both, position=half, frequency=half, angle=half, table=table)
            yield rounded("RD501", both, frequency=half, angle=half, table=table)


def _rounded(
    spec: RopeSpec,
    *,
    position: Rounding = _to_float32,
    frequency: Rounding = _to_float32,
    angle: Rounding = _to_float32,
    table: Rounding = _to_float32,
) -> AngleFunction:
    """The model's own arithmetic of each table entry, with a rounding after each of its four steps."""

    def angle_function(positions: np.ndarray, length: int) -> CosSin:
        angles = angle(position(by_pair(spec, positions)) * frequency(spec.inv_freq(length)))
        with np.errstate(invalid="ignore"):  # an angle too large for its type is infinite
            cos, sin = from_angles(spec, angles.astype(np.float64))
        return table(cos), table(sin)

    return angle_function
