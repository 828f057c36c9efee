"""Mistakes whose number has to be estimated from what was measured: rope_theta, a factor, single frequencies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.hypothesis import AngleFunction, CosSin, Mistake, angles_of_rule
from rope_deploy.diagnosis.measured_rotation import Frequencies, Multipliers, frequencies, length_ratios
from rope_deploy.diagnosis.rule_mistakes import ramp_text, rule_text, scaled_angles
from rope_deploy.errors import ConfigError
from rope_deploy.rope import Default, DynamicNTK, Linear, Llama3, RopeSpec, Scaling, Yarn, by_pair, from_angles

Measured = list[Frequencies]

THETAS = (50.0, 1e9)  # the range in which rope_theta is searched
FACTORS = (1 / 128, 128.0)  # and the factor of a rule
CONTEXTS = (2048, 4096, 8192, 32768)  # contexts that models were first trained with
POINTS, ROUNDS = 48, 9  # of a search by ever finer grids
SAME = 1e-3  # relative difference from the estimate up to which a round number is tried
SINGLE = 1e-5  # relative difference from which on the frequency of a single pair is called wrong


def estimated_mistakes(evidence: Evidence) -> Iterator[Mistake]:
    """Mistakes with the number that fits the frequencies and lengths measured in all calls, wrong or not."""
    calls = [call for call in evidence.multipliers if len(call.positions)]
    if not calls:
        return
    if measured := _measured_frequencies(evidence.spec, calls):
        yield from _other_theta(evidence, measured)
        yield from _other_factor(evidence, measured)
        yield from _other_ramp(evidence, measured)
        yield from _frozen(evidence, measured)
        yield from _other_rules(evidence, measured)
        yield from _single_pairs(evidence, measured[0])
    yield from _other_length(evidence, length_ratios(calls))


def _measured_frequencies(spec: RopeSpec, calls: Sequence[Multipliers]) -> Measured:
    """The frequencies of all calls together; of a rule that depends on the length, those of the calls within the
    threshold together, and of each call beyond it alone."""
    threshold = spec.original_max_position if spec.depends_on_length else None
    if threshold is None:
        found = [frequencies(calls)]
    else:
        spans = [(call, int(call.positions.max()) + 1) for call in calls]
        found = [frequencies([call for call, length in spans if length <= threshold], threshold)]
        found += [frequencies([call], length) for call, length in spans if length > threshold]
    return [one for one in found if one is not None]


def _other_theta(evidence: Evidence, measured: Measured) -> Iterator[Mistake]:
    spec = evidence.spec

    def with_theta(theta: float) -> RopeSpec:
        return replace(spec, rope_theta=theta)

    found = _search(_gap_function(with_theta, measured), *THETAS)
    for theta in _round_numbers(found):
        if theta != spec.rope_theta:
            explanation = f"rope_theta is {theta:,.10g} instead of {spec.rope_theta:,.10g}.".replace(",", " ")
            yield _by_rule("RD301", explanation, with_theta(theta), evidence)


def _other_factor(evidence: Evidence, measured: Measured) -> Iterator[Mistake]:
    spec = evidence.spec
    if not getattr(spec.scaling, "factor", None) or spec.scaling.rope_type == "longrope":
        return
    yield from _with_factor("RD304", spec, evidence, measured, spec.scaling, "The factor is {} instead of {}.")


def _with_factor(
    code: str,
    spec: RopeSpec,
    evidence: Evidence,
    measured: Measured,
    scaling: Scaling,
    sentence: str,
) -> Iterator[Mistake]:
    """The rule `scaling` with the factor that fits best; attention_scaling of that factor, and as stated."""

    def with_factor(factor: float) -> RopeSpec:
        return replace(spec, scaling=replace(scaling, factor=factor))

    stated_factor = getattr(spec.scaling, "factor", None)
    for factor in _round_numbers(_search(_gap_function(with_factor, measured), *FACTORS)):
        if factor == stated_factor and type(scaling) is type(spec.scaling):
            continue
        wrong = with_factor(factor)
        explanation = sentence.format(f"{factor:.6g}", f"{stated_factor:g}" if stated_factor else "")
        angles = angles_of_rule(wrong, evidence.angles)
        yield Mistake(code, explanation, replace(evidence.stated, angle_function=angles))
        if wrong.attention_scaling != spec.attention_scaling:
            kept = scaled_angles(angles, spec.attention_scaling / wrong.attention_scaling)
            yield Mistake(code, explanation, replace(evidence.stated, angle_function=kept))


def _by_rule(code: str, explanation: str, wrong: RopeSpec, evidence: Evidence) -> Mistake:
    return Mistake(code, explanation, replace(evidence.stated, angle_function=angles_of_rule(wrong, evidence.angles)))


def _other_ramp(evidence: Evidence, measured: Measured) -> Iterator[Mistake]:
    """YaRN's two betas, searched on a grid: whole numbers and their halves are what configurations hold."""
    spec, rule = evidence.spec, evidence.spec.scaling
    if not isinstance(rule, Yarn):
        return
    best, found = np.inf, None
    for fast in (2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128, 256):
        for slow in (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8):
            wrong = replace(spec, scaling=replace(rule, beta_fast=fast, beta_slow=slow))
            if (gap := _gap(wrong, measured)) < best:
                best, found = gap, wrong
    if found is not None and (found.scaling.beta_fast, found.scaling.beta_slow) != (rule.beta_fast, rule.beta_slow):
        explanation = ramp_text(rule, found.scaling.beta_fast, found.scaling.beta_slow)
        yield _by_rule("RD306", explanation, found, evidence)


def _frozen(evidence: Evidence, measured: Measured) -> Iterator[Mistake]:
    """Dynamic NTK frozen at the length that fits best."""
    spec = evidence.spec
    if not isinstance(spec.scaling, DynamicNTK):
        return
    held_at = np.arange(spec.scaling.threshold, evidence.rows + 1)
    gaps = [_gap(spec, measured, int(length)) for length in held_at]
    held = int(held_at[int(np.argmin(gaps))])
    rule = angles_of_rule(spec, evidence.angles)
    explanation = f"Frequencies are those of {held} tokens at every length."
    frozen = replace(evidence.stated, angle_function=lambda positions, _: rule(positions, held))
    yield Mistake("RD307", explanation, frozen)


def _other_rules(evidence: Evidence, measured: Measured) -> Iterator[Mistake]:
    """Other scaling rules, with the factor that fits best."""
    spec = evidence.spec
    plain = replace(spec, scaling=Default())
    context = spec.original_max_position or spec.max_position
    originals = dict.fromkeys([context, *(spec.max_position // part for part in (1, 2, 4, 8, 16, 32)), *CONTEXTS])
    tried = [Linear(2.0)]
    for original in (length for length in originals if length > 1):
        tried += [Llama3(2.0, 1.0, 4.0, original), Yarn(2.0, original)]
    for scaling in tried:
        if type(scaling) is not type(spec.scaling):
            sentence = f"The rule is {scaling.rope_type} with factor {{}} instead of {rule_text(spec.scaling)}."
            yield from _with_factor("RD303", plain, evidence, measured, scaling, sentence)


def _single_pairs(evidence: Evidence, measured: Frequencies) -> Iterator[Mistake]:
    """Pairs whose frequency is wrong by a factor; under a rule that depends on the length, by that factor at each."""
    spec = evidence.spec
    expected, found = _signed_frequencies(spec, measured.length), measured.values
    wrong = measured.known & (np.abs(found - expected) > SINGLE * np.abs(expected))
    if not wrong.any():
        return
    pairs = np.flatnonzero(wrong)
    gap, size = np.abs(found - expected)[pairs], np.maximum(np.abs(found), np.abs(expected))[pairs]
    worst = int(pairs[np.argmax(gap / size)])
    which = "All pairs" if wrong.all() else f"{len(pairs)} of {len(expected)} pairs"
    frequency = f"pair {worst} by {found[worst]:.6g} a position instead of {expected[worst]:.6g}"
    factor = np.where(wrong, found / np.where(expected == 0, 1, expected), 1.0)
    added = np.where(wrong & (expected == 0), found, 0.0)
    angles = angles_of_frequencies(spec, lambda length: _signed_frequencies(spec, length) * factor + added)
    explanation = f"{which} rotate otherwise; {frequency}."
    yield Mistake("RD309", explanation, replace(evidence.stated, angle_function=angles))


def _other_length(evidence: Evidence, length: np.ndarray) -> Iterator[Mistake]:
    factor = float(np.median(length)) / evidence.spec.attention_scaling
    if abs(factor - 1) < 1e-6:
        return
    explanation = f"Rotated vectors are {factor:.6g} times as long as they should be."
    scaled = scaled_angles(evidence.stated.angle_function, factor)
    yield Mistake("RD403", explanation, replace(evidence.stated, angle_function=scaled))


def angles_of_frequencies(spec: RopeSpec, frequency: Callable[[int], np.ndarray]) -> AngleFunction:
    """The cos and sin of `spec` with other frequencies, radians per position [P] of a sequence length.

    They come from what was measured: where `spec` is reversed, they are negative already.
    """
    direction = -1.0 if spec.reversed else 1.0

    def angle_function(positions: np.ndarray, length: int) -> CosSin:
        return from_angles(spec, by_pair(spec, positions) * (direction * frequency(length)))

    return angle_function


def _signed_frequencies(spec: RopeSpec, length: int | None = None) -> np.ndarray:
    """Radians per position of each pair, negative if the rotation is reversed: [P]."""
    return spec.inv_freq(length, np.float64) * (-1.0 if spec.reversed else 1.0)


def _gap(spec: RopeSpec, measured: Measured, length: int | None = None) -> float:
    """How far the spec's frequencies are from the measured ones: the mean of relative differences, each at most 1.

    They are those of `length`, or else of the length of the sequence measured.
    """
    gaps = []
    for one in measured:
        expected = _signed_frequencies(spec, length or one.length)
        counted = one.known & (expected != 0)
        gaps.append(np.minimum(np.abs(one.values[counted] / expected[counted] - 1), 1.0))
    return float(np.concatenate(gaps).mean()) if any(map(len, gaps)) else np.inf


def _gap_function(with_number: Callable[[float], RopeSpec], measured: Measured) -> Callable[[float], float]:
    """The gap of the rule with each number; infinite for a number that the rule does not allow."""

    def gap(value: float) -> float:
        try:
            return _gap(with_number(value), measured)
        except ConfigError:
            return np.inf

    return gap


def _search(function: Callable[[float], float], low: float, high: float) -> float:
    """The number between `low` and `high` where `function` is least: a grid of logarithms, refined around its best."""
    a, b = np.log(low), np.log(high)
    for _ in range(ROUNDS):
        grid = np.linspace(a, b, POINTS)
        best = grid[int(np.argmin([function(float(np.exp(x))) for x in grid]))]
        step = (b - a) / (POINTS - 1)
        a, b = best - step, best + step
    return float(np.exp(best))


def _round_numbers(value: float) -> tuple[float, ...]:
    """Round numbers near `value`, the roundest first, as people write them into configurations; then `value` itself."""
    if not np.isfinite(value) or value <= 0:
        return ()
    magnitude = 10.0 ** np.floor(np.log10(value))
    near = [float(round(value / magnitude, digits) * magnitude) for digits in (0, 1, 2, 3, 5)]
    close = [float(f"{x:.10g}") for x in near if abs(x / value - 1) < SAME]
    return tuple(dict.fromkeys([*close, value]))
