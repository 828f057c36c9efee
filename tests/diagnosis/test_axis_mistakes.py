"""Positions with three axes: which axis a pair follows is told apart, and other mistakes are named as ever."""

from dataclasses import replace

import pytest

from rope_deploy.diagnosis import layout_mistakes, position_mistakes, rule_mistakes
from rope_deploy.diagnosis.axis_mistakes import axis_mistakes
from rope_deploy.diagnosis.best_explanation import explain
from rope_deploy.diagnosis.hypothesis import Mistake, by_rule, sound
from rope_deploy.rope import Default, RopeSpec, Yarn
from tests.diagnosis.seen import evidence

ROWS = 1024
SPECS = {
    "sections": RopeSpec(64, 64, False, 1e6, Default(), ROWS, mrope_section=(8, 12, 12)),
    "in turn": RopeSpec(64, 64, False, 5e5, Yarn(4.0, 256), ROWS, mrope_section=(12, 10, 10), mrope_interleaved=True),
}


def planted(spec):
    right = sound(spec, ROWS)
    yield from axis_mistakes(spec, right, "model")
    yield from layout_mistakes.shape_mistakes(spec, right)
    yield from (
        m for m in rule_mistakes.rule_mistakes(spec, right, "model", {}) if m.code in ("RD302", "RD401", "RD305")
    )
    yield Mistake("RD201", "Positions are 3 too large.", replace(right, place=position_mistakes._shifted(3)))
    yield Mistake("RD206", "", replace(right, place=position_mistakes._modulo(300)))
    yield Mistake("RD301", "", replace(right, turning=by_rule(replace(spec, rope_theta=2e4))))


@pytest.mark.parametrize("family", SPECS)
def test_every_mistake_is_named(family):
    spec, unnamed = SPECS[family], []
    for number, mistake in enumerate(planted(spec)):
        seen = evidence(spec, mistake.rotation, ROWS, seed=number)
        if sound(spec, ROWS).residual(seen) <= 1:
            continue  # equal sections may change places
        found = explain(spec, ROWS, "model", seen)
        code = found.mistake.code if found and found.mistake else None
        if code != mistake.code:
            unnamed.append((mistake.code, mistake.explanation, found and found.mistake))
    assert not unnamed


@pytest.mark.parametrize("family", SPECS)
def test_a_sound_rotation_is_never_called_wrong(family):
    spec = SPECS[family]
    assert explain(spec, ROWS, "model", evidence(spec, sound(spec, ROWS), ROWS)) is None


def test_text_alone_cannot_tell_that_the_axes_are_flattened():
    spec = SPECS["sections"]
    flat = next(m for m in axis_mistakes(spec, sound(spec, ROWS), "model") if m.code == "RD210")
    seen = evidence(spec, flat.rotation, ROWS)
    text = [one for one in seen if one.case.startswith(("prefill", "decode", "chunk"))]
    assert explain(spec, ROWS, "model", text) is None
    assert explain(spec, ROWS, "model", seen).mistake.code == "RD210"
