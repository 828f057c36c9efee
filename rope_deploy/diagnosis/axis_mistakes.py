"""Mistakes in which axis of a position a pair follows (M-RoPE: time, height, width; RD209, RD210)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

import numpy as np

from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.hypothesis import Mistake, PositionFunction, angles_of_rule
from rope_deploy.diagnosis.observation import Observation
from rope_deploy.rope import RopeSpec

MOST = 4  # axes that any model has


def axis_mistakes(evidence: Evidence) -> Iterator[Mistake]:
    """Nothing for positions of one axis. Text, whose axes are equal, cannot tell any of these apart."""
    spec, stated = evidence.spec, evidence.stated
    section = spec.mrope_section
    if not section:
        return
    for axis in range(len(section)):
        flat = f"Every pair follows axis {axis} of the positions, as if they had one."
        yield Mistake("RD210", flat, replace(stated, positions_used=_only(axis)))

    def by_rule(explanation: str, wrong: RopeSpec) -> Mistake:
        return Mistake("RD209", explanation, replace(stated, angle_function=angles_of_rule(wrong, evidence.angles)))

    done, expected = ("a run each", "in turn") if spec.mrope_interleaved else ("in turn", "a run each")
    swapped = replace(spec, mrope_interleaved=not spec.mrope_interleaved)
    yield by_rule(f"The axes have their pairs {done}; they must have them {expected}.", swapped)
    for order in list(permutations(range(len(section))))[1:]:
        numbers = ", ".join(map(str, order))
        explanation = f"The axes are taken in the order {numbers}."
        yield Mistake("RD209", explanation, replace(stated, positions_used=_in_order(order)))
        sizes = tuple(section[axis] for axis in order)
        if sizes != section:
            explanation = f"The sections are {list(sizes)} instead of {list(section)}."
            yield by_rule(explanation, replace(spec, mrope_section=sizes))


def _only(axis: int) -> PositionFunction:
    return lambda observation: _axes(observation)[axis]


def _in_order(order: tuple[int, ...]) -> PositionFunction:
    return lambda observation: _axes(observation)[list(order)]


def _axes(observation: Observation) -> np.ndarray:
    """[A, B, S], also of a call in which positions had one axis."""
    return observation.axes if observation.axes is not None else np.stack([observation.positions] * MOST)
