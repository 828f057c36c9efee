"""Mistakes in which axis of a position a pair follows (M-RoPE: time, height, width)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

import numpy as np

from rope_deploy.diagnosis.hypothesis import Mistake, Rotation, by_rule
from rope_deploy.diagnosis.observation import Observation
from rope_deploy.rope import Angles, RopeSpec

MOST = 4  # axes that any model has


def axis_mistakes(spec: RopeSpec, right: Rotation, angles: Angles) -> Iterator[Mistake]:
    """Nothing for positions of one axis. Text, whose axes agree, cannot tell any of these apart."""
    section = spec.mrope_section
    if not section:
        return
    for axis in range(len(section)):
        flat = f"Every pair follows axis {axis} of the positions, as if they had one."
        yield Mistake("RD210", flat, replace(right, place=_only(axis)))

    def ordered(explanation: str, wrong: RopeSpec) -> Mistake:
        return Mistake("RD209", explanation, replace(right, turning=by_rule(wrong, angles)))

    done, due = ("a run each", "in turn") if spec.mrope_interleaved else ("in turn", "a run each")
    turned = replace(spec, mrope_interleaved=not spec.mrope_interleaved)
    yield ordered(f"The axes have their pairs {done}; they must have them {due}.", turned)
    for order in list(permutations(range(len(section))))[1:]:
        words = ", ".join(map(str, order))
        yield Mistake("RD209", f"The axes are taken in the order {words}.", replace(right, place=_in_order(order)))
        sizes = tuple(section[axis] for axis in order)
        if sizes != section:
            told = f"The sections are {list(sizes)} instead of {list(section)}."
            yield ordered(told, replace(spec, mrope_section=sizes))


def _only(axis: int):
    return lambda seen: _axes(seen)[axis]


def _in_order(order: tuple[int, ...]):
    return lambda seen: _axes(seen)[list(order)]


def _axes(seen: Observation):
    """[A, B, S], also of a call in which positions had one axis."""
    return seen.axes if seen.axes is not None else np.stack([seen.positions] * MOST)
