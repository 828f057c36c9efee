"""Find whether a graph computes its angles in a half type, and what that costs.

fp16 counts whole positions to 2048 and bf16 to 256, and an angle of 1000 is off by a quarter or by 2 there. A runtime
may compute wider than the graph states (ONNX Runtime's CPU has no half kernels for most operators); a table would hold
the loss for good.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.analysis.data_movement import Marks
from rope_deploy.graph.analysis.dependence import Dependence
from rope_deploy.graph.analysis.evaluate import HALF, ancestors
from rope_deploy.rope.table_rounding import table_rounding

TRIGONOMETRIC = ("Cos", "Sin")


@dataclass(frozen=True)
class Shortened:
    """What a table lost to a half type, `dtype`: that of its angles, or of the frequencies (inv_freq) alone.

    `error`: how far cos or sin is from what fp32 gives, at `position`; None for frequencies, whose right values are
    not in the graph.
    """

    what: Literal["angles", "frequencies"]
    dtype: str
    error: float | None = None
    position: int = 0


def half_angles(factors: Sequence[ir.Value], marks: Marks) -> str:
    """The half type that positions go through before a cosine is taken or a row of a table is picked; "" if none."""
    return next(_halves(factors, marks, of_positions=True), "")


def half_frequencies(factors: Sequence[ir.Value], marks: Marks) -> str:
    """The half type of numbers, one a pair, that positions are multiplied by; "" if none."""
    return next(_halves(factors, marks, of_positions=False), "")


def _halves(factors: Sequence[ir.Value], marks: Marks, *, of_positions: bool) -> Iterator[str]:
    """Half types above the angles: of values that depend on positions, or of several numbers that do not."""
    angles = list(_angles(factors, marks))
    for node in ancestors(angles):
        values = node.outputs if of_positions else node.inputs
        for value in values:
            if value is None or value.dtype not in HALF:
                continue
            if of_positions:
                wanted = marks.get(value) == Dependence.POSITION
            else:
                wanted = not marks.get(value) and _size(value) > 1
            if wanted:
                yield HALF[value.dtype]


def _size(value: ir.Value) -> int:
    """How many numbers a value has, as far as that is known; else 1."""
    dims = [] if value.shape is None else list(value.shape)
    return math.prod(dim for dim in dims if isinstance(dim, int))


def _angles(factors: Sequence[ir.Value], marks: Marks) -> Iterator[ir.Value]:
    """What cosines and sines are taken of, and the rows that are picked of a table."""
    for node in ancestors(factors):
        if node.op_type in TRIGONOMETRIC:
            yield node.inputs[0]
        elif node.op_type.startswith("Gather") and marks.get(node.inputs[1]) == Dependence.POSITION:
            yield node.inputs[1]


def loss(found: Sequence[np.ndarray], wide: Sequence[np.ndarray]) -> tuple[float, int] | None:
    """How far cos and sin [rows, R/2] are from those in fp32, and in which row; None if rounding explains it."""
    worst, where = 0.0, 0
    for mine, theirs in zip(found, wide, strict=True):
        scale = max(1.0, float(np.abs(np.nan_to_num(theirs)).max(initial=0.0)))
        slack = scale * table_rounding(mine.dtype)
        error = np.abs(mine.astype(np.float64) - theirs).max(axis=1, initial=0.0)
        error = np.where(np.isnan(error), 2 * scale, error)  # an angle beyond fp16 is infinite: no number comes of it
        if error.size and error.max() > max(slack, worst):
            worst, where = float(error.max()), int(error.argmax())
    return (worst, where) if worst else None
