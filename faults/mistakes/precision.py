"""In which precision angles and tables are made: RD501 to RD504."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from faults.mistakes.fault import Fault, RotationChange, at_sites
from faults.plant_rotation import AppliedRotation, Sound
from faults.tf32 import tf32
from rope_deploy.rope import tables

BFLOAT16 = ml_dtypes.bfloat16


def rounded(array: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    return array.astype(dtype).astype(np.float32)


def angles_in(dtype: DTypeLike) -> RotationChange:
    """position_ids and frequencies are cast before they are multiplied, and so is their product."""

    def edit(sound: Sound) -> AppliedRotation:
        return sound.by_angles(lambda p, f: rounded(rounded(p, dtype) * rounded(f, dtype), dtype))

    return edit


def angles_in_tf32(sound: Sound) -> AppliedRotation:
    """A MatMul of positions and frequencies on tensor cores."""
    return sound.by_angles(lambda positions, inv_freq: tf32(positions) * tf32(inv_freq))


def frequencies_in(dtype: DTypeLike) -> RotationChange:
    return lambda sound: sound.by_angles(lambda positions, inv_freq: positions * rounded(inv_freq, dtype))


def table_in(dtype: DTypeLike) -> RotationChange:
    def edit(sound: Sound) -> AppliedRotation:
        made = [tables(sound.spec, rows, seq_len=length) for rows, length in sound.lengths]
        return sound.stacked([(rounded(cos, dtype), rounded(sin, dtype)) for cos, sin in made])

    return edit


PRECISION = (
    Fault("angles-bfloat16", "RD501", at_sites(angles_in(BFLOAT16)), long=True),
    Fault("angles-float16", "RD501", at_sites(angles_in(np.float16)), long=True),
    Fault("angles-tf32", "RD502", at_sites(angles_in_tf32), long=True),
    # In a float16 graph it lies within what one element's own arithmetic explains, and shows in all together.
    Fault("table-bfloat16", "RD503", at_sites(table_in(BFLOAT16))),
    Fault("table-float16", "RD503", at_sites(table_in(np.float16)), dtypes=("float32",)),
    Fault("frequencies-bfloat16", "RD504", at_sites(frequencies_in(BFLOAT16)), long=True),
    Fault("frequencies-float16", "RD504", at_sites(frequencies_in(np.float16)), long=True),
)
