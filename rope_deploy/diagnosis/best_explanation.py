"""The best explanation of what one site did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import inf

from rope_deploy.diagnosis.axis_mistakes import axis_mistakes
from rope_deploy.diagnosis.estimated_mistakes import estimated_mistakes
from rope_deploy.diagnosis.hypothesis import Mistake, Rotation, sound
from rope_deploy.diagnosis.layout_mistakes import shape_mistakes, width_mistakes
from rope_deploy.diagnosis.measure import multipliers, placed
from rope_deploy.diagnosis.observation import Observation
from rope_deploy.diagnosis.phase_mistakes import exchange_mistakes, phase_mistakes
from rope_deploy.diagnosis.position_mistakes import measured_mistakes, place_mistakes, short_table_mistakes
from rope_deploy.diagnosis.precision_mistakes import precision_mistakes
from rope_deploy.diagnosis.rule_mistakes import rule_mistakes
from rope_deploy.diagnosis.unrotated_pairs import still_mistakes
from rope_deploy.rope import Angles, RopeSpec

EXPLAINED = 4.0  # budgets left when a mistake accounts for everything: its own roundings may differ from ours
# Share of the error left at most: what is little beyond its budget is not explained by what changes nothing.
LEFT = 2 / 3
NEARLY = 0.05  # share of the error left that still names a mistake, e.g. one whose roundings we cannot repeat


@dataclass(frozen=True)
class Explanation:
    """`error` and `residual` in units of what rounding explains; `mistake` None if nothing known fits."""

    mistake: Mistake | None
    error: float
    residual: float
    closest: Mistake | None = None


def explain(
    spec: RopeSpec,
    rows: int,
    angles: Angles,
    evidence: Sequence[Observation],
    *,
    others: Mapping[str, RopeSpec] | None = None,
    first: Sequence[Mistake] = (),
) -> Explanation | None:
    """What a site with rule `spec` did wrong, judged by all that was seen of it; None if it did nothing wrong.

    Mistakes are tried from the plainest to those with estimated numbers, and the first that accounts for all
    evidence is it. `others` are the rules of other layers; `first` are mistakes found elsewhere, tried before all.
    """
    right = sound(spec, rows, angles)
    ratios = [right.ratio(seen, exactly=True) for seen in evidence]
    error = max(ratios, default=0.0)
    if error <= 1:
        return None
    # Wrong observations come first, the worst leading: most hypotheses fail at the first look.
    order = sorted(range(len(evidence)), key=lambda number: -ratios[number])
    ordered = [evidence[number] for number in order]
    wrong = [seen for seen, ratio in zip(evidence, ratios) if ratio > 1]
    unexplained = right.residual(ordered)  # by the same measure as every hypothesis
    least, closest = unexplained, None
    for mistake in chain(first, _mistakes(spec, right, angles, evidence, wrong, others or {})):
        residual = mistake.rotation.residual(ordered, limit=least)
        if residual <= min(EXPLAINED, LEFT * unexplained):
            return Explanation(mistake, error, residual)
        if residual < least:
            least, closest = residual, mistake
    named = closest if least <= NEARLY * unexplained < inf else None  # of what is no number everything is a small share
    return Explanation(named, error, least, closest)


def _mistakes(
    spec: RopeSpec,
    right: Rotation,
    angles: Angles,
    evidence: Sequence[Observation],
    wrong: Sequence[Observation],
    others: Mapping[str, RopeSpec],
) -> Iterator[Mistake]:
    yield from shape_mistakes(spec, right)
    yield from exchange_mistakes(right)
    yield from place_mistakes(right)
    yield from axis_mistakes(spec, right, angles)
    yield from rule_mistakes(spec, right, angles, others)
    yield from precision_mistakes(spec, right)
    measured = partial(multipliers, interleaved=spec.interleaved, pairs=spec.rotary_dim // 2)
    stood = [placed(measured(seen), right.turning, right.rows, int(seen.positions.max()) + 1) for seen in wrong]
    yield from measured_mistakes(right, stood)
    yield from short_table_mistakes(right, wrong)
    yield from phase_mistakes(right, [(measured(seen), int(seen.positions.max()) + 1) for seen in wrong])
    yield from still_mistakes(spec, right, wrong)
    yield from width_mistakes(spec, right, angles)
    yield from estimated_mistakes(spec, right, angles, list(map(measured, evidence)))
