"""Name the mistake in a table: a made-up vector is rotated by it, and diagnosed as any other rotation is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from rope_deploy.artifact import Site
from rope_deploy.audit.compare_table import TableComparison, lengths_of
from rope_deploy.audit.table_tolerances import budget
from rope_deploy.diagnosis.best_explanation import explain
from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.observation import Observation
from rope_deploy.diagnosis.rule_mistakes import rule_mistakes
from rope_deploy.graph.reading import FoundTable
from rope_deploy.rope import RopeSpec

NEAR = 96  # positions from 0 on, where angles are small and estimates are safe
FAR = 160  # positions spread over the rest


@dataclass(frozen=True)
class TableMistake:
    """A code of `results/codes.py`, a sentence, and how far the table is from the rule without and with the mistake."""

    code: str
    explanation: str
    error: float
    residual: float


def name_mistake(
    table: FoundTable, spec: RopeSpec, others: Mapping[str, RopeSpec], found: TableComparison, max_position: int
) -> TableMistake:
    """What `table`, which does not fit `spec`, is instead; RD900 if nothing known explains it.

    `others` are the rules of other layers. Raises Unreadable.
    """
    alone, rest = as_table(spec), {name: as_table(other) for name, other in others.items()}
    observations = [_observe(table, alone, length, found) for length in lengths_of(table, spec, max_position)]
    evidence = Evidence(alone, table.rows or max_position, "model", observations, rest)
    # A mistake of the rule is tried first: a table is applied once, as the graph shows, so that twice the angles are a
    # factor of 2 that was dropped, and not a rotation that is applied twice.
    explained = explain(evidence, first=tuple(rule_mistakes(evidence)))
    mistake = explained.mistake if explained is not None else None
    error = max(found.ratio, explained.error if explained is not None else 0.0)
    stated = stated_precision(table)
    if mistake is not None and (mistake.code not in ("RD309", "RD900") or stated is None):
        return TableMistake(mistake.code, mistake.explanation, error, explained.residual)
    if stated is not None:
        return TableMistake(*stated, error, error)
    off = f"off by {found.error:.3g}" if isfinite(found.error) else "no number"
    where = f"{found.what} of pair {found.pair} at position {found.position} is {off}"
    return TableMistake("RD900", f"The {where}, and no known mistake explains the table.", error, error)


def stated_precision(table: FoundTable) -> tuple[str, str] | None:
    """The mistake of precision that can be read off the types in the graph."""
    precision = table.precision
    if precision.angles in ("float16", "bfloat16"):
        return "RD501", f"The angles are computed in {precision.angles}."
    if precision.frequencies:
        return "RD504", f"inv_freq is stored in {precision.frequencies}."
    if precision.table in ("float16", "bfloat16") and precision.table != precision.activations:
        return "RD503", f"cos and sin are stored in {precision.table}."
    return None


def as_table(spec: RopeSpec) -> RopeSpec:
    """The spec of a head that is rotated whole, since a table knows nothing of heads and layouts."""
    return replace(spec, head_dim=spec.rotary_dim, interleaved=False, mrope_section=())


def _observe(table: FoundTable, spec: RopeSpec, length: int, found: TableComparison) -> Observation:
    """The vector (1, …, 1, 0, …, 0) at chosen positions, which the table rotates to (cos, sin): [1, 1, P, R]."""
    positions = _chosen(table, length, found)
    cos, sin = (half.astype(np.float64) for half in table.at(positions, length))
    x = np.zeros((1, 1, len(positions), spec.rotary_dim))
    x[..., : spec.rotary_dim // 2] = 1.0
    rotated = np.concatenate([cos, sin], axis=1)[None, None]
    allowed = budget(table, spec, positions, length).max(axis=1)[None]
    return Observation(
        case=f"{length} tokens",
        site=Site(0, "q", "", 1, spec.head_dim, "BNSH", None, None),
        unrotated=x,
        rotated=rotated,
        positions=positions[None],
        mask=np.ones((1, length), np.int64),
        real=np.ones((1, len(positions)), bool),
        budget=allowed,
        errors=lambda expected: np.abs(rotated - expected).max(axis=(1, 3)),
    )


def _chosen(table: FoundTable, length: int, found: TableComparison) -> np.ndarray:
    """Positions near 0, spread over the rest, and around the worst entry."""
    if table.positions == "counted":
        return np.arange(length)
    spread = np.linspace(NEAR, length - 1, FAR).astype(np.int64) if length > NEAR else []
    around = [found.position - 1, found.position, found.position + 1]
    chosen = np.concatenate([np.arange(min(NEAR, length)), spread, around, [length - 1]]).astype(np.int64)
    return np.unique(chosen[(chosen >= 0) & (chosen < length)])
