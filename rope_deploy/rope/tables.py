"""cos and sin of every position, half width."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rope_deploy.errors import PositionOutOfRange
from rope_deploy.rope.spec import RopeSpec

Angles = Literal["model", "float64"]


def tables(
    spec: RopeSpec, rows: int, *, angles: Angles = "model", seq_len: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """cos and sin of positions 0 … rows − 1, each fp32 [rows, rotary_dim/2], attention_scaling folded in.

    See `cos_sin`, which takes any positions.
    """
    return cos_sin(spec, np.arange(rows), angles=angles, seq_len=seq_len)


def cos_sin(
    spec: RopeSpec, positions: NDArray[Any], *, angles: Angles = "model", seq_len: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """cos and sin of `positions` [...], each fp32 [..., rotary_dim/2], attention_scaling folded in.

    "model" repeats transformers' arithmetic: frequency and angle in fp32, one rounding each. The cosine of that
    angle is correctly rounded here, PyTorch's may be an ulp off. "float64" rounds once, at the end.
    `seq_len` picks the frequencies where `spec.depends_on_length`. With `spec.mrope_section` positions may have their
    axes first, [A, ...]: each pair then takes that of its axis. Without, all axes are alike, as they are of text.
    """
    precision = np.float32 if angles == "model" else np.float64
    per_pair = by_pair(spec, positions).astype(precision)
    frequencies = _frequencies(spec, seq_len if spec.depends_on_length else None, precision)
    return from_angles(spec, (per_pair * frequencies).astype(np.float64), precision, seq_len=seq_len)


def by_pair(spec: RopeSpec, positions: NDArray[Any]) -> NDArray[Any]:
    """The position of each pair: [..., 1] for all alike, or [B, S, rotary_dim/2] of positions with axes [A, B, S]."""
    if positions.ndim == 3 and len(positions) == len(spec.mrope_section):
        return np.moveaxis(positions[spec.axes], 0, -1)
    return positions[..., None]


@lru_cache(maxsize=256)
def _frequencies(spec: RopeSpec, seq_len: int | None, precision: type) -> NDArray[Any]:
    """`spec.inv_freq`, cached: a diagnosis asks for the angles of the same rules thousands of times."""
    return spec.inv_freq(seq_len, precision)


def from_angles(
    spec: RopeSpec, angle: NDArray[np.float64], precision: type = np.float32, *, seq_len: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """cos and sin of angles in radians, with the spec's direction and attention_scaling, rounded to fp32."""
    direction, factor = -1.0 if spec.reversed else 1.0, spec.attention_scaling_at(seq_len)
    return _scaled(np.cos(angle), factor, precision), _scaled(np.sin(angle), factor * direction, precision)


def rows_at(table: NDArray[Any], position_ids: NDArray[Any]) -> NDArray[Any]:
    """table[position_ids], [..., width]; a position outside the table raises PositionOutOfRange, never wraps."""
    positions = np.asarray(position_ids)
    if positions.size and (positions.min() < 0 or positions.max() >= len(table)):
        outside = positions[(positions < 0) | (positions >= len(table))]
        raise PositionOutOfRange(
            f"Position {outside.flat[0]} is outside the table.",
            exists=f"It has rows for positions 0 … {len(table) - 1}.",
            todo="Shorten the sequence, or export with a larger --max-position.",
        )
    return table[positions]


def _scaled(values: NDArray[np.float64], factor: float, precision: type) -> NDArray[np.float32]:
    """In "model" precision the value is rounded before it is multiplied, as in the model."""
    return (values.astype(precision) * precision(factor)).astype(np.float32)
