"""Every known mistake, as generators in the order in which a diagnosis tries them.

To add a diagnosis: its code and title in `results/codes.py`, its page in `results/pages/`, a generator in the file of
its kind here (or a mistake in an existing generator), the generator in `GENERATORS`, and a planted fault in `faults/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rope_deploy.diagnosis.axis_mistakes import axis_mistakes
from rope_deploy.diagnosis.estimated_mistakes import estimated_mistakes
from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.hypothesis import Mistake
from rope_deploy.diagnosis.layout_mistakes import application_mistakes, width_mistakes
from rope_deploy.diagnosis.phase_mistakes import exchange_mistakes, phase_mistakes
from rope_deploy.diagnosis.position_mistakes import (
    computed_position_mistakes,
    measured_position_mistakes,
    short_table_mistakes,
)
from rope_deploy.diagnosis.precision_mistakes import precision_mistakes
from rope_deploy.diagnosis.rule_mistakes import rule_mistakes
from rope_deploy.diagnosis.unrotated_pair_mistakes import unrotated_pair_mistakes

Generator = Callable[[Evidence], Iterator[Mistake]]

# The plainest mistakes come first, those with estimated numbers last: the first that explains the evidence is named.
GENERATORS: tuple[Generator, ...] = (
    application_mistakes,
    exchange_mistakes,
    computed_position_mistakes,
    axis_mistakes,
    rule_mistakes,
    precision_mistakes,
    measured_position_mistakes,
    short_table_mistakes,
    phase_mistakes,
    unrotated_pair_mistakes,
    width_mistakes,
    estimated_mistakes,
)


def known_mistakes(evidence: Evidence) -> Iterator[Mistake]:
    """Every mistake that the site of `evidence` may have made. Lazy: later generators measure, which takes time."""
    for generate in GENERATORS:
        yield from generate(evidence)
