"""Name what is wrong with a table of cos and sin: the same fit, on what the table would do to the vector (1, 0)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rope_deploy.artifact import Site
from rope_deploy.parity.diagnosis.explain import explain
from rope_deploy.parity.diagnosis.measure import BEYOND
from rope_deploy.parity.diagnosis.observation import Observation
from rope_deploy.parity.diagnosis.rotation import FREQUENCY_ROUNDINGS, SINGLE, Rotation, by_rule, sound
from rope_deploy.rope import Angles, RopeSpec

# Units in the last place of the table's type: its own rounding, and that of a fp32 cosine of another library.
ROUNDINGS, SINGLE_ROUNDINGS = 1.0, 4.0
FIRST, SPREAD = 128, 384  # rows a fit looks at: the first ones, and others spread over the rest
UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-24}


@dataclass(frozen=True)
class TableMistake:
    """A code of `report.codes` and a sentence. `error` and `residual` are in units of rounding, `row` is the worst."""

    code: str
    explanation: str
    row: int
    error: float
    residual: float


def diagnose_table(
    cos: np.ndarray,
    sin: np.ndarray,
    spec: RopeSpec,
    *,
    angles: Angles = "model",
    length: int | None = None,
    first_position: int = 0,
) -> TableMistake | None:
    """What is wrong with a table [rows, P] of positions from `first_position` on; None if it follows `spec`.

    Every row is compared, with what rounding explains in the table's own dtype and for fp32 frequencies; a fit then
    looks at a few hundred. `length` is the sequence the table serves, where the rule depends on it.
    """
    if cos.shape != sin.shape or cos.ndim != 2:
        return TableMistake("RD900", f"cos {list(cos.shape)} and sin {list(sin.shape)} do not fit together.", 0, 0, 0)
    if 2 * cos.shape[1] != spec.rotary_dim:
        return _other_width(cos, sin, spec, angles, length)
    spec = replace(spec, head_dim=spec.rotary_dim, interleaved=False, mrope_section=())
    right = sound(spec, first_position + len(cos) + BEYOND, angles)  # a shifted table has rows from beyond its own
    if length is not None:
        rule = by_rule(spec, angles)
        right = replace(right, turning=lambda places, _: rule(places, length))
    error, row = _worst(cos, sin, right, spec, first_position)
    if error <= 1:
        return None
    rows = np.unique([*range(min(FIRST, len(cos))), *np.linspace(0, len(cos) - 1, SPREAD).astype(int), row])
    seen = _as_seen(cos[rows], sin[rows], spec, rows + first_position)
    found = explain(spec, right.rows, angles, [seen], right=right)
    if found is None or found.mistake is None:
        near = f" The closest is {found.closest.code}: {found.closest.explanation}" if found and found.closest else ""
        return TableMistake("RD900", f"No known mistake explains it.{near}", row, error, error)
    return TableMistake(found.mistake.code, found.mistake.explanation, row, error, found.residual)


def _other_width(cos: np.ndarray, sin: np.ndarray, spec: RopeSpec, angles: Angles, length: int | None) -> TableMistake:
    """A table of another width than the rule's; whether it is otherwise as the rule has it, is said too."""
    width = 2 * cos.shape[1]
    told = f"The table turns {width} elements of a head; the rule says {spec.rotary_dim}."
    try:
        own = replace(spec, rotary_dim=width, head_dim=max(width, spec.head_dim))
    except ValueError:
        return TableMistake("RD103", told, 0, np.inf, np.inf)
    rest = diagnose_table(cos, sin, own, angles=angles, length=length)
    return TableMistake("RD103", told, 0, np.inf, rest.error if rest else 0.0)


def _as_seen(cos: np.ndarray, sin: np.ndarray, spec: RopeSpec, positions: np.ndarray) -> Observation:
    """Every row as a token (1, …, 1, 0, …, 0), which a rotation turns to (cos, sin)."""
    site = Site(0, "k", "table", 1, spec.rotary_dim, "BNSH", None, None)
    unrotated = np.zeros((1, 1, len(cos), spec.rotary_dim))
    unrotated[..., : cos.shape[1]] = 1.0
    rotated = np.concatenate([cos, sin], axis=1).astype(np.float64)[None, None]
    every = np.ones((1, len(cos)), np.int64)
    return Observation(
        case="table",
        site=site,
        unrotated=unrotated,
        rotated=rotated,
        positions=positions[None].astype(np.int64),
        mask=every,
        real=every == 1,
        budget=_budget(cos, spec, positions)[None],
        errors=lambda expected: np.abs(rotated - expected).max(axis=(1, 3)),
    )


def _budget(cos: np.ndarray, spec: RopeSpec, positions: np.ndarray) -> np.ndarray:
    """What rounding explains in each row: the table's type, and a frequency some fp32 units off times the position."""
    rounding = ROUNDINGS * UNITS[cos.dtype.name] + (SINGLE_ROUNDINGS + FREQUENCY_ROUNDINGS * positions) * SINGLE
    return max(1.0, spec.attention_scaling) * rounding


def _worst(
    cos: np.ndarray, sin: np.ndarray, right: Rotation, spec: RopeSpec, first_position: int, block: int = 16384
) -> tuple[float, int]:
    """The largest error of any row in units of its budget, and the row."""
    worst, where = 0.0, 0
    for start in range(0, len(cos), block):
        rows = slice(start, start + block)
        positions = first_position + np.arange(start, min(start + block, len(cos)))
        stated = right.turning(positions, int(positions[-1]) + 1)
        gap = np.zeros(len(positions))
        for mine, theirs in zip((cos[rows], sin[rows]), stated):
            with np.errstate(invalid="ignore"):
                gap = np.maximum(gap, np.abs(mine.astype(np.float64) - theirs).max(axis=1, initial=0.0))
        ratio = np.where(np.isnan(gap), np.inf, gap) / _budget(cos, spec, positions)
        if ratio.max(initial=0.0) > worst:
            worst, where = float(ratio.max()), start + int(ratio.argmax())
    return worst, where
