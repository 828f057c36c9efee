"""How far a table of a file may be from its rule, judged without running it: every number that decides that.

    |found − expected| ≤ scale · (half an ulp at 1 of the table's type + FP32_SLACK + FREQUENCY · angle)

`expected` is computed in fp64. FP32_SLACK (rope/table_rounding.py) is a cosine of PyTorch's (an ulp) and the product
with attention_scaling (another). FREQUENCY is what eight roundings to fp32 between rope_theta and the angle amount to:
a power, a reciprocal, the product with the position, and for scaling rules a blend. Half-precision arithmetic there
costs hundreds of times as much, so it does not pass; an exporter with its own order of operations does.

(What a runtime computes is judged by `parity/tolerances.py`.)
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from rope_deploy.graph.reading import FoundTable
from rope_deploy.rope import RopeSpec
from rope_deploy.rope.table_rounding import table_rounding

FREQUENCY = 8 * 2.0**-24
ONE_ROUNDING = 0.51  # of the last place at 1: a half, and what fp32 expected values add
TOWER_ROUNDING = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}  # of cos² + sin², relative to its median
FEW = 8  # rows that may be called damaged where no rule is stated; more of them follow some rule
# Of an export's own tables, whose rule repeats the model's roundings:
OTHER_ROUNDINGS = 1e-1  # the largest difference that other roundings of the angles alone explain, as those of fp64
MISTAKEN = 1e-2  # a larger difference is an error, a smaller one a warning
COUNTED = 1e-3  # between the cos and sin of a token in one call and after a cache, where the graph counts positions


def budget(table: FoundTable, spec: RopeSpec, positions: np.ndarray, length: int) -> np.ndarray:
    """What rounding explains of the error of each entry, [P, R/2]."""
    angle = positions[:, None] * np.abs(spec.inv_freq(length, np.float64))
    return max(1.0, spec.attention_scaling) * (slack(table) + FREQUENCY * angle)


def slack(table: FoundTable) -> float:
    """The part of the budget that does not grow with the position.

    A table in a shorter type than the activations it rotates gets no more than one in float32.
    """
    name = table.precision.table if table.precision.table == table.precision.activations else "float32"
    return table_rounding(name)


def repeated_roundings(cos: np.ndarray) -> float:
    """What an entry of a table with these cosines may be off by from a rule whose roundings of angles are the same."""
    return max(1.0, float(np.abs(cos.astype(np.float64)).max(initial=0.0))) * table_rounding(cos.dtype)


def one_rounding(table: FoundTable, spec: RopeSpec) -> float:
    """What an entry may be off by if it was computed in fp64 and rounded once."""
    return max(1.0, spec.attention_scaling) * float(ml_dtypes.finfo(table.precision.table).eps) * ONE_ROUNDING


def step_budget(table: FoundTable, scale: float, positions: np.ndarray, step: np.ndarray) -> np.ndarray:
    """What rounding explains where a row is predicted from the one before by `step`, complex [R/2]: [rows − 1, R/2].

    It counts the errors of both rows and of the step; the rounding of an angle grows with the angle.
    """
    angle = (positions[:-1, None] + 1) * np.abs(np.angle(step))
    return scale * (4 * slack(table) + 2 * FREQUENCY * (1 + angle))
