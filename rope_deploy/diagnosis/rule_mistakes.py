"""Mistakes in the scaling rule and its parameters: how far a pair is rotated, how long it becomes (RD3xx, RD4xx)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import numpy as np

from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.hypothesis import AngleFunction, CosSin, Mistake, angles_of_rule
from rope_deploy.rope import Default, DynamicNTK, Linear, Llama3, LongRope, RopeSpec, Scaling, Yarn

# Ramps of YaRN seen in the wild: the paper's, and the ends swapped, halved or doubled.
BETAS = ((32, 1), (1, 32), (32, 2), (32, 4), (16, 1), (64, 1))


ByRule = Callable[[str, str, RopeSpec], Mistake]  # code, explanation, the rule that is followed instead


def rule_mistakes(evidence: Evidence) -> Iterator[Mistake]:
    """Every rule that may be applied instead of the stated one, as far as no number has to be estimated."""
    spec, stated, angles = evidence.spec, evidence.stated, evidence.angles

    def by_rule(code: str, explanation: str, wrong: RopeSpec) -> Mistake:
        return Mistake(code, explanation, replace(stated, angle_function=angles_of_rule(wrong, angles)))

    for name, other in evidence.others.items():
        if other.rotary_dim == spec.rotary_dim and other.head_dim == spec.head_dim:
            yield by_rule("RD109", f"What is applied is {name}, the rotation of other layers.", other)
    yield from _frozen(evidence)
    yield from _dropped(spec, by_rule)
    yield from _wrong_lengths(evidence)
    if isinstance(spec.scaling, Yarn):
        yield from _yarn(spec, by_rule)
    for scaling in _related_rules(spec):
        explanation = f"The rule is {rule_text(scaling)} instead of {rule_text(spec.scaling)}."
        yield by_rule("RD303", explanation, replace(spec, scaling=scaling))


def rule_text(scaling: Scaling) -> str:
    """E.g. "yarn with factor 4"."""
    factor = getattr(scaling, "factor", None)
    return scaling.rope_type + (f" with factor {factor:g}" if factor else "")


def _frozen(evidence: Evidence) -> Iterator[Mistake]:
    """A rule that depends on the length, applied as at one length; and LongRoPE's two sets mixed up."""
    spec, stated, angles = evidence.spec, evidence.stated, evidence.angles
    if not spec.depends_on_length or (threshold := spec.original_max_position) is None:
        return

    def at(length: int) -> AngleFunction:
        rule = angles_of_rule(spec, angles)
        return lambda positions, _: rule(positions, length)

    if isinstance(spec.scaling, LongRope):
        short = f"The short factors are applied at every length, also beyond {threshold} tokens."
        long = f"The long factors are applied at every length, also up to {threshold} tokens."
        yield Mistake("RD307", short, replace(stated, angle_function=at(threshold)))
        yield Mistake("RD307", long, replace(stated, angle_function=at(threshold + 1)))
        swapped = replace(
            spec,
            scaling=replace(spec.scaling, short_factor=spec.scaling.long_factor, long_factor=spec.scaling.short_factor),
        )
        mixed = f"The long factors are applied up to {threshold} tokens and the short ones beyond."
        yield Mistake("RD308", mixed, replace(stated, angle_function=angles_of_rule(swapped, angles)))
        return
    never = f"Frequencies stay as they are up to {threshold} tokens: beyond that nothing is scaled."
    yield Mistake("RD307", never, replace(stated, angle_function=at(threshold)))
    for length in {2 * threshold, stated.rows, spec.max_position} - {threshold}:
        held = f"Frequencies are those of {length} tokens at every length."
        yield Mistake("RD307", held, replace(stated, angle_function=at(length)))


def _dropped(spec: RopeSpec, by_rule: ByRule) -> Iterator[Mistake]:
    if isinstance(spec.scaling, Default):
        return
    plain = replace(spec, scaling=Default())
    explanation = f"The frequencies are those of rope_theta alone; {rule_text(spec.scaling)} was dropped."
    yield by_rule("RD302", explanation, plain)
    if spec.attention_scaling != 1:  # the factor on cos and sin kept, the frequencies unscaled
        mistake = by_rule("RD302", f"{explanation[:-1]}, all but its attention_scaling.", plain)
        scaled = scaled_angles(mistake.hypothesis.angle_function, spec.attention_scaling)
        yield replace(mistake, hypothesis=replace(mistake.hypothesis, angle_function=scaled))


def _wrong_lengths(evidence: Evidence) -> Iterator[Mistake]:
    """attention_scaling missing, or applied twice."""
    stated, factor = evidence.stated, evidence.spec.attention_scaling
    if factor == 1:
        return
    missing = f"cos and sin are not scaled; attention_scaling is {factor:.6g}."
    yield Mistake("RD401", missing, replace(stated, angle_function=scaled_angles(stated.angle_function, 1 / factor)))
    twice = f"cos and sin are scaled by {factor * factor:.6g}, the square of attention_scaling {factor:.6g}."
    yield Mistake("RD402", twice, replace(stated, angle_function=scaled_angles(stated.angle_function, factor)))


def _yarn(spec: RopeSpec, by_rule: ByRule) -> Iterator[Mistake]:
    rule = spec.scaling
    done, expected = ("truncate is off", "on") if rule.truncate else ("truncate is on", "off")
    inverted = replace(spec, scaling=_with_parameters(rule, truncate=not rule.truncate))
    yield by_rule("RD305", f"YaRN's {done}; it should be {expected}.", inverted)
    for fast, slow in BETAS:
        if (fast, slow) != (rule.beta_fast, rule.beta_slow):
            wrong = replace(spec, scaling=_with_parameters(rule, beta_fast=fast, beta_slow=slow))
            yield by_rule("RD306", ramp_text(rule, fast, slow), wrong)


def ramp_text(rule: Yarn, fast: float, slow: float) -> str:
    found, expected = f"beta_fast {fast:g} and beta_slow {slow:g}", f"{rule.beta_fast:g} and {rule.beta_slow:g}"
    return f"YaRN's ramp is that of {found} instead of {expected}."


def _related_rules(spec: RopeSpec) -> Iterator[Scaling]:
    """Other rules with the parameters this one has, or those such a rule usually has."""
    rule = spec.scaling
    factor = float(getattr(rule, "factor", 0) or 0)
    original = spec.original_max_position or max(1, int(spec.max_position / factor) if factor > 0 else 0)
    if factor in (0, 1):
        return
    made = (
        Linear(factor),
        Yarn(factor, original, attention_factor=1.0),
        Yarn(factor, original),
        Llama3(factor, 1.0, 4.0, original),
        DynamicNTK(factor, original),
        DynamicNTK(factor, spec.max_position),
    )
    for scaling in made:
        if type(scaling) is not type(rule) and not scaling.faults(spec.rotary_dim):
            yield scaling


def _with_parameters(rule: Scaling, **changed) -> Scaling:
    """The rule with other parameters and its own attention_scaling: else two mistakes would be mixed."""
    known = {field.name for field in fields(rule)}
    kept = {"attention_factor": rule.attention_scaling} if "attention_factor" in known else {}
    return replace(rule, **kept, **changed)


def scaled_angles(angles: AngleFunction, factor: float) -> AngleFunction:
    """The cos and sin of `angles`, times `factor`."""

    def scaled(positions: np.ndarray, length: int) -> CosSin:
        cos, sin = angles(positions, length)
        return cos * factor, sin * factor

    return scaled
