"""Mistakes in how far a pair turns and how long it becomes: the rule and its parameters (RD3xx, RD4xx)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace

from rope_deploy.diagnosis.hypothesis import Mistake, Rotation, Tables, Turning, by_rule
from rope_deploy.rope import Angles, Default, DynamicNTK, Linear, Llama3, LongRope, RopeSpec, Scaling, Yarn

# Ramps of YaRN seen in the wild: the paper's, and the ends swapped, halved or doubled.
BETAS = ((32, 1), (1, 32), (32, 2), (32, 4), (16, 1), (64, 1))


def rule_mistakes(spec: RopeSpec, right: Rotation, angles: Angles, others: Mapping[str, RopeSpec]) -> Iterator[Mistake]:
    """Every rule that might stand in for the right one without a number having to be estimated."""

    def ruled(code: str, explanation: str, wrong: RopeSpec) -> Mistake:
        return Mistake(code, explanation, replace(right, turning=by_rule(wrong, angles)))

    for name, other in others.items():
        if other.rotary_dim == spec.rotary_dim and other.head_dim == spec.head_dim:
            yield ruled("RD109", f"What is applied is {name}, the rotation of other layers.", other)
    yield from frozen_mistakes(spec, right, angles)
    yield from _dropped(spec, ruled)
    yield from _length_mistakes(spec, right)
    if isinstance(spec.scaling, Yarn):
        yield from _yarn(spec, ruled)
    for scaling in _relatives(spec):
        explanation = f"The rule is {words_of(scaling)} instead of {words_of(spec.scaling)}."
        yield ruled("RD303", explanation, replace(spec, scaling=scaling))


def words_of(scaling: Scaling) -> str:
    factor = getattr(scaling, "factor", None)
    return scaling.rope_type + (f" with factor {factor:g}" if factor else "")


def frozen_mistakes(spec: RopeSpec, right: Rotation, angles: Angles) -> Iterator[Mistake]:
    """A rule of the length that stays as it was at one length, and LongRoPE's two sets mixed up."""
    if not spec.depends_on_length or (turn := spec.original_max_position) is None:
        return

    def at(length: int) -> Turning:
        rule = by_rule(spec, angles)
        return lambda places, _: rule(places, length)

    if isinstance(spec.scaling, LongRope):
        short = f"The short factors are applied at every length, also beyond {turn} tokens."
        long = f"The long factors are applied at every length, also up to {turn} tokens."
        yield Mistake("RD307", short, replace(right, turning=at(turn)))
        yield Mistake("RD307", long, replace(right, turning=at(turn + 1)))
        swapped = replace(
            spec,
            scaling=replace(spec.scaling, short_factor=spec.scaling.long_factor, long_factor=spec.scaling.short_factor),
        )
        mixed = f"The long factors are applied up to {turn} tokens and the short ones beyond."
        yield Mistake("RD308", mixed, replace(right, turning=by_rule(swapped, angles)))
        return
    never = f"Frequencies stay as they are up to {turn} tokens: beyond that nothing is scaled."
    yield Mistake("RD307", never, replace(right, turning=at(turn)))
    for length in {2 * turn, right.rows, spec.max_position} - {turn}:
        held = f"Frequencies are those of {length} tokens at every length."
        yield Mistake("RD307", held, replace(right, turning=at(length)))


def _dropped(spec: RopeSpec, ruled) -> Iterator[Mistake]:
    if isinstance(spec.scaling, Default):
        return
    plain = replace(spec, scaling=Default())
    explanation = f"The frequencies are those of rope_theta alone; {words_of(spec.scaling)} was dropped."
    yield ruled("RD302", explanation, plain)
    if spec.attention_scaling != 1:  # the factor on cos and sin kept, the frequencies unscaled
        mistake = ruled("RD302", f"{explanation[:-1]}, all but its attention_scaling.", plain)
        scaled = scaled_by(mistake.rotation.turning, spec.attention_scaling)
        yield replace(mistake, rotation=replace(mistake.rotation, turning=scaled))


def _length_mistakes(spec: RopeSpec, right: Rotation) -> Iterator[Mistake]:
    factor = spec.attention_scaling
    if factor == 1:
        return
    missing = f"cos and sin are not scaled; attention_scaling is {factor:.6g}."
    yield Mistake("RD401", missing, replace(right, turning=scaled_by(right.turning, 1 / factor)))
    twice = f"cos and sin are scaled by {factor * factor:.6g}, the square of attention_scaling {factor:.6g}."
    yield Mistake("RD402", twice, replace(right, turning=scaled_by(right.turning, factor)))


def _yarn(spec: RopeSpec, ruled) -> Iterator[Mistake]:
    rule = spec.scaling
    done, due = ("truncate is off", "on") if rule.truncate else ("truncate is on", "off")
    yield ruled(
        "RD305", f"YaRN's {done}; it should be {due}.", replace(spec, scaling=_like(rule, truncate=not rule.truncate))
    )
    for fast, slow in BETAS:
        if (fast, slow) != (rule.beta_fast, rule.beta_slow):
            yield ruled(
                "RD306", betas(rule, fast, slow), replace(spec, scaling=_like(rule, beta_fast=fast, beta_slow=slow))
            )


def betas(rule: Yarn, fast: float, slow: float) -> str:
    found, due = f"beta_fast {fast:g} and beta_slow {slow:g}", f"{rule.beta_fast:g} and {rule.beta_slow:g}"
    return f"YaRN's ramp is that of {found} instead of {due}."


def _relatives(spec: RopeSpec) -> Iterator[Scaling]:
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


def _like(rule: Scaling, **changed) -> Scaling:
    """The rule with other numbers; its attention scaling stays what it was, or two mistakes would be mixed."""
    known = {field.name for field in fields(rule)}
    kept = {"attention_factor": rule.attention_scaling} if "attention_factor" in known else {}
    return replace(rule, **kept, **changed)


def scaled_by(turning: Turning, factor: float) -> Turning:
    def scaled(places, length: int) -> Tables:
        cos, sin = turning(places, length)
        return cos * factor, sin * factor

    return scaled
