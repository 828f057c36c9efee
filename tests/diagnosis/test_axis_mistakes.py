"""Positions with three axes: the axis that a pair follows is diagnosed, and other mistakes are named as always."""

from dataclasses import replace

import pytest

from rope_deploy.diagnosis import layout_mistakes, position_mistakes, rule_mistakes
from rope_deploy.diagnosis.axis_mistakes import axis_mistakes
from rope_deploy.diagnosis.best_explanation import explain
from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.hypothesis import Mistake, angles_of_rule, hypothesis_of_rule
from rope_deploy.rope import Default, RopeSpec, Yarn
from tests.diagnosis.made_observations import observations_of

ROWS = 1024
SPECS = {
    "sections": RopeSpec(64, 64, False, 1e6, Default(), ROWS, mrope_section=(8, 12, 12)),
    "in turn": RopeSpec(64, 64, False, 5e5, Yarn(4.0, 256), ROWS, mrope_section=(12, 10, 10), mrope_interleaved=True),
}


def planted(spec):
    stated = hypothesis_of_rule(spec, ROWS)
    yield from axis_mistakes(Evidence(spec, ROWS))
    yield from layout_mistakes.application_mistakes(Evidence(spec, ROWS))
    yield from (m for m in rule_mistakes.rule_mistakes(Evidence(spec, ROWS)) if m.code in ("RD302", "RD401", "RD305"))
    yield Mistake("RD201", "Positions are 3 too large.", replace(stated, positions_used=position_mistakes.shifted(3)))
    yield Mistake("RD206", "", replace(stated, positions_used=position_mistakes.modulo(300)))
    yield Mistake("RD301", "", replace(stated, angle_function=angles_of_rule(replace(spec, rope_theta=2e4))))


@pytest.mark.parametrize("family", SPECS)
def test_every_mistake_is_named(family):
    spec, unnamed = SPECS[family], []
    for number, mistake in enumerate(planted(spec)):
        seen = observations_of(spec, mistake.hypothesis, ROWS, seed=number)
        if hypothesis_of_rule(spec, ROWS).residual(seen) <= 1:
            continue  # equal sections may change places
        found = explain(Evidence(spec, ROWS, observations=seen))
        code = found.mistake.code if found and found.mistake else None
        if code != mistake.code:
            unnamed.append((mistake.code, mistake.explanation, found and found.mistake))
    assert not unnamed


@pytest.mark.parametrize("family", SPECS)
def test_a_sound_rotation_is_never_called_wrong(family):
    spec = SPECS[family]
    seen = observations_of(spec, hypothesis_of_rule(spec, ROWS), ROWS)
    assert explain(Evidence(spec, ROWS, observations=seen)) is None


def test_text_alone_cannot_tell_that_the_axes_are_flattened():
    spec = SPECS["sections"]
    flat = next(m for m in axis_mistakes(Evidence(spec, ROWS)) if m.code == "RD210")
    seen = observations_of(spec, flat.hypothesis, ROWS)
    text = [one for one in seen if one.case.startswith(("prefill", "decode", "chunk"))]
    assert explain(Evidence(spec, ROWS, observations=text)) is None
    assert explain(Evidence(spec, ROWS, observations=seen)).mistake.code == "RD210"
