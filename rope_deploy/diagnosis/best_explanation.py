"""The best explanation of what one site did: the first known mistake that explains all its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf

from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.hypothesis import Mistake
from rope_deploy.diagnosis.known_mistakes import known_mistakes

EXPLAINED = 4.0  # largest residual of a mistake that explains everything: its own roundings may differ from ours
# Largest share of the error that may be left: an error little beyond its budget has a small residual under any mistake.
LEFT = 2 / 3
NEARLY = 0.05  # share of the error left that still names a mistake, e.g. one whose roundings we cannot repeat


@dataclass(frozen=True)
class Explanation:
    """`error` and `residual` are in units of what rounding explains. `mistake` is None if no known mistake fits."""

    mistake: Mistake | None
    error: float
    residual: float
    closest: Mistake | None = None


def explain(evidence: Evidence, *, first: Sequence[Mistake] = ()) -> Explanation | None:
    """The mistake a site made, judged by all its observations; None if it made none.

    Mistakes are tried in the order of `known_mistakes`, and the first that explains every observation is returned.
    `first` are mistakes found at other sites, which are tried before all others.
    """
    error = max(evidence.ratios, default=0.0)
    if error <= 1:
        return None
    observations = evidence.worst_first
    unexplained = evidence.stated.residual(observations)  # by the same measure as every hypothesis
    least, closest = unexplained, None
    for mistake in chain(first, known_mistakes(evidence)):
        residual = mistake.hypothesis.residual(observations, limit=least)
        if residual <= min(EXPLAINED, LEFT * unexplained):
            return Explanation(mistake, error, residual)
        if residual < least:
            least, closest = residual, mistake
    # Of an infinite error (NaN) every finite residual is a small share, which would name anything.
    named = closest if least <= NEARLY * unexplained < inf else None
    return Explanation(named, error, least, closest)
