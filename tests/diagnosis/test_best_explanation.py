"""Every mistake in every family of rules is named, and a sound rotation never is."""

from dataclasses import replace

import numpy as np
import pytest

from rope_deploy.diagnosis import (
    estimated_mistakes,
    layout_mistakes,
    phase_mistakes,
    position_mistakes,
    precision_mistakes,
    rule_mistakes,
)
from rope_deploy.diagnosis.best_explanation import explain
from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.hypothesis import Mistake, angles_of_rule, hypothesis_of_rule
from rope_deploy.diagnosis.unrotated_pair_mistakes import pair_and_member, partly, replacements
from rope_deploy.rope import Default, DynamicNTK, Linear, Llama3, LongRope, Proportional, RopeSpec, Yarn
from tests.diagnosis.made_observations import observations_of
from tests.sweep import swept

ROWS = 4096
SHORT, LONG = tuple(1 + 0.02 * i for i in range(24)), tuple(1 + 0.3 * i for i in range(24))
SPECS = {
    "default": RopeSpec(64, 64, False, 1e6, Default(), ROWS),
    "interleaved": RopeSpec(64, 64, True, 1e4, Default(), ROWS),
    "reversed": RopeSpec(64, 64, False, 1e4, Default(), ROWS, reversed=True),
    "partial": RopeSpec(64, 16, False, 1e4, Default(), ROWS),
    "linear": RopeSpec(64, 64, False, 1e4, Linear(4.0), ROWS),
    "yarn": RopeSpec(64, 64, False, 1e4, Yarn(4.0, 1024), ROWS),
    "llama3": RopeSpec(64, 64, False, 5e5, Llama3(8.0, 1.0, 4.0, 512), ROWS),
    "dynamic": RopeSpec(64, 64, False, 1e4, DynamicNTK(4.0, 128), ROWS),
    "longrope": RopeSpec(48, 48, False, 1e4, LongRope(SHORT, LONG, 128, 4.0), ROWS),
    "proportional": RopeSpec(64, 64, False, 1e6, Proportional(0.25), ROWS),
}
# A pair that is hardly rotated has a cosine of 1 and a sine of 0, so that without one of them it is not rotated.
UNROTATED = ("leave as they came", "are multiplied by the cosine and miss the sine's part")
# Numbers that two mistakes share: the plainer one is named.
SAME = {
    # Where no frequency is tiny, float16 keeps the same bits of positions and frequencies as TF32.
    "Positions and inv_freq were multiplied in float16.": {"RD501", "RD502"},
    # NTK up to its original context is no scaling at all.
    "The frequencies are those of rope_theta alone; dynamic with factor 4 was dropped.": {"RD302", "RD307"},
}


def with_angles(stated, angles):
    return replace(stated, angle_function=angles)


def planted(spec):
    stated = hypothesis_of_rule(spec, ROWS)
    yield from layout_mistakes.application_mistakes(Evidence(spec, ROWS))
    yield from phase_mistakes.exchange_mistakes(Evidence(spec, ROWS))
    yield from in_part(spec, stated)
    yield from (m for m in rule_mistakes.rule_mistakes(Evidence(spec, ROWS)) if m.code != "RD303")
    for theta in (5e5, 123_456.0):
        yield Mistake("RD301", "", with_angles(stated, angles_of_rule(replace(spec, rope_theta=theta))))
    yield Mistake("RD403", "", with_angles(stated, rule_mistakes.scaled_angles(stated.angle_function, 1.1)))
    yield from by_family(spec, stated)
    if spec in (SPECS["interleaved"], SPECS["longrope"]):  # these do not depend on the rule
        yield from anywhere(spec, stated)


def in_part(spec, stated):
    """The end of the table, and one element of each pair there, do something else."""
    pairs = int(np.count_nonzero(spec.inv_freq()))
    pair, member = pair_and_member(spec.rotary_dim, spec.interleaved)
    for first in (pairs - max(1, pairs // 4), pairs // 2):
        for elements in (pair >= first, (pair >= first) & (member == 1)):
            for what, instead in replacements(stated.apply, spec.attention_scaling, whole=False):
                yield Mistake(
                    "RD112",
                    what,
                    replace(stated, apply=partly(stated.apply, instead, elements)),
                )
    yield Mistake(
        "RD111",
        "rotated by 0.7 rad",
        with_angles(stated, phase_mistakes.changed(stated.angle_function, _ahead)),
    )


def _ahead(cos, sin):
    z = (cos + 1j * sin) * np.exp(0.7j)
    return z.real, z.imag


def anywhere(spec, stated):
    yield from position_mistakes.computed_position_mistakes(Evidence(spec, ROWS))
    yield from precision_mistakes.precision_mistakes(Evidence(spec, ROWS))
    for offset in (7, -5):
        yield Mistake("RD201", "", replace(stated, positions_used=position_mistakes.shifted(offset)))
    for size in (100, 128):
        yield Mistake("RD206", "", replace(stated, positions_used=position_mistakes.modulo(size)))
    for value in (np.nan, 0.0, 1.0):
        yield Mistake("RD207", "", with_angles(stated, position_mistakes.ending(stated.angle_function, 300, value)))


def by_family(spec, stated):
    if not spec.depends_on_length:
        clamped = replace(stated, positions_used=lambda seen: np.minimum(seen.positions, 200))
        yield Mistake("RD207", "", clamped)
        frequency = spec.inv_freq(None, np.float64)
        frequency[3] *= 1.2
        yield Mistake(
            "RD309",
            "",
            with_angles(stated, estimated_mistakes.angles_of_frequencies(spec, lambda _: frequency)),
        )
        width = 8 if spec.rotary_dim == 16 else 48
        if not isinstance(spec.scaling, Proportional):
            other = with_angles(stated, angles_of_rule(replace(spec, rotary_dim=width)))
            yield Mistake("RD103", f"rotary_dim is {width} instead of {spec.rotary_dim}.", other)
    if getattr(spec.scaling, "factor", 1.0) != 1.0 and not isinstance(spec.scaling, LongRope):
        for factor in (3.0, 6.0, 32.0):
            wrong = replace(spec, scaling=replace(spec.scaling, factor=factor))
            yield Mistake("RD304", f"{factor:g} instead of", with_angles(stated, angles_of_rule(wrong)))
    if isinstance(spec.scaling, Default):
        for scaling in (Linear(3.0), Llama3(8.0, 1.0, 4.0, 512), Yarn(4.0, 512)):
            wrong = replace(spec, scaling=scaling)
            yield Mistake("RD303", f"{scaling.rope_type} with factor", with_angles(stated, angles_of_rule(wrong)))


@pytest.mark.parametrize("family", swept(SPECS, ["llama3"]))
def test_every_mistake_is_named(family):
    spec = SPECS[family]
    unnamed = []
    for number, mistake in enumerate(planted(spec)):
        seen = observations_of(spec, mistake.hypothesis, ROWS, seed=number)
        if hypothesis_of_rule(spec, ROWS).residual(seen) <= 1:
            continue  # with this rule it changes nothing, e.g. YaRN's ramp cut off at its end
        found = explain(Evidence(spec, ROWS, observations=seen))
        assert found is not None, mistake
        code = found.mistake.code if found.mistake else "RD900"
        accepted = SAME.get(mistake.explanation, {mistake.code})
        wanted = UNROTATED if mistake.explanation in UNROTATED else (mistake.explanation,)
        same = found.mistake is not None and any(text in found.mistake.explanation for text in wanted)
        if code not in accepted or (code == mistake.code and not same):
            text = found.mistake.explanation if found.mistake else ""
            unnamed.append((mistake.code, mistake.explanation, code, text))
    assert not unnamed


@pytest.mark.parametrize("family", SPECS)
def test_a_sound_rotation_is_never_called_wrong(family):
    spec = SPECS[family]
    for seed in range(5):
        seen = observations_of(spec, hypothesis_of_rule(spec, ROWS), ROWS, seed=seed)
        assert explain(Evidence(spec, ROWS, observations=seen)) is None


def test_what_no_mistake_explains_is_said_to_be_unexplained():
    spec = SPECS["default"]
    odd = replace(hypothesis_of_rule(spec, ROWS), apply=lambda x, cos, sin: x * cos.mean() + sin.mean())
    found = explain(Evidence(spec, ROWS, observations=observations_of(spec, odd, ROWS)))
    assert found.mistake is None and found.residual > 1000


def test_an_error_little_beyond_its_budget_is_not_named_by_what_changes_nothing():
    """Its residual is small, as the error is: where nothing is padded, padding added to positions changes nothing."""
    spec = SPECS["default"]
    stated = hypothesis_of_rule(spec, ROWS)
    (seen, *_) = observations_of(
        spec, with_angles(stated, rule_mistakes.scaled_angles(stated.angle_function, 1.001)), ROWS
    )
    ratio = stated.ratio(seen, exactly=True)
    lenient = replace(seen, budget=seen.budget * ratio / 3)  # three times what rounding explains
    found = explain(Evidence(spec, ROWS, observations=[lenient]))
    assert 2.9 < found.error < 3.1
    assert found.mistake.code == "RD403"


def test_evidence_in_which_a_site_was_right_rules_mistakes_out():
    """Off by one everywhere and off by one in decode agree on decode alone."""
    spec = SPECS["default"]
    wrong = replace(hypothesis_of_rule(spec, ROWS), positions_used=position_mistakes.shifted(1, only_after_past=True))
    seen = observations_of(spec, wrong, ROWS)
    everywhere = explain(Evidence(spec, ROWS, observations=[one for one in seen if one.past]))
    assert everywhere.mistake.explanation == "Positions are 1 too large."
    assert "after the first" in explain(Evidence(spec, ROWS, observations=seen)).mistake.explanation


def test_another_layers_rule_is_recognised():
    spec, other = SPECS["default"], SPECS["linear"]
    seen = observations_of(spec, replace(hypothesis_of_rule(spec, ROWS), angle_function=angles_of_rule(other)), ROWS)
    found = explain(Evidence(spec, ROWS, observations=seen, others={"rope_1": other}))
    assert found.mistake.code == "RD109" and "rope_1" in found.mistake.explanation
