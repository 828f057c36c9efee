"""Mistakes whose number has to be estimated from what was measured: rope_theta, a factor, single frequencies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from rope_deploy.diagnosis.hypothesis import Mistake, Rotation, Tables, Turning, by_rule
from rope_deploy.diagnosis.measure import Frequencies, Multipliers, frequencies, lengths
from rope_deploy.diagnosis.rule_mistakes import betas, scaled_by, words_of
from rope_deploy.errors import ConfigError
from rope_deploy.rope import Angles, Default, DynamicNTK, Linear, Llama3, RopeSpec, Scaling, Yarn, by_pair, from_angles

Measured = list[Frequencies]

THETAS = (50.0, 1e9)  # the range in which rope_theta is looked for
FACTORS = (1 / 128, 128.0)
CONTEXTS = (2048, 4096, 8192, 32768)  # contexts that models were first trained with
POINTS, ROUNDS = 48, 9  # of a search by ever finer grids
SAME = 1e-3  # relative difference of a frequency that is called wrong
SINGLE = 1e-5  # the same, where only some pairs are


def estimated_mistakes(
    spec: RopeSpec, right: Rotation, angles: Angles, calls: Sequence[Multipliers]
) -> Iterator[Mistake]:
    """`calls` are the multipliers measured in each call, wrong or not."""
    calls = [call for call in calls if len(call.positions)]
    if not calls:
        return
    if measured := _measured(spec, calls):
        yield from _thetas(spec, right, angles, measured)
        yield from _factors(spec, right, angles, measured)
        yield from _ramps(spec, right, angles, measured)
        yield from _frozen(spec, right, angles, measured)
        yield from _rules(spec, right, angles, measured)
        yield from _singles(spec, right, measured[0])
    yield from _lengths(spec, right, lengths(calls))


def _measured(spec: RopeSpec, calls: Sequence[Multipliers]) -> Measured:
    """All calls together; for a rule of the length those within the threshold together, and each one beyond."""
    turn = spec.original_max_position if spec.depends_on_length else None
    if turn is None:
        found = [frequencies(calls)]
    else:
        spans = [(call, int(call.positions.max()) + 1) for call in calls]
        found = [frequencies([call for call, length in spans if length <= turn], turn)]
        found += [frequencies([call], length) for call, length in spans if length > turn]
    return [one for one in found if one is not None]


def _thetas(spec: RopeSpec, right: Rotation, angles: Angles, measured: Measured) -> Iterator[Mistake]:
    def with_theta(theta: float) -> RopeSpec:
        return replace(spec, rope_theta=theta)

    found = _search(_distance(with_theta, measured), *THETAS)
    for theta in _snapped(found):
        if theta != spec.rope_theta:
            explanation = f"rope_theta is {theta:,.10g} instead of {spec.rope_theta:,.10g}.".replace(",", " ")
            yield Mistake("RD301", explanation, replace(right, turning=by_rule(with_theta(theta), angles)))


def _factors(spec: RopeSpec, right: Rotation, angles: Angles, measured: Measured) -> Iterator[Mistake]:
    if not getattr(spec.scaling, "factor", None) or spec.scaling.rope_type == "longrope":
        return
    yield from _with_factor("RD304", spec, right, angles, measured, spec.scaling, "The factor is {} instead of {}.")


def _with_factor(
    code: str,
    spec: RopeSpec,
    right: Rotation,
    angles: Angles,
    measured: Measured,
    scaling: Scaling,
    sentence: str,
) -> Iterator[Mistake]:
    """A rule with the factor that fits best; its attention_scaling with that factor, and as it should be."""

    def with_factor(factor: float) -> RopeSpec:
        return replace(spec, scaling=replace(scaling, factor=factor))

    due = getattr(spec.scaling, "factor", None)
    for factor in _snapped(_search(_distance(with_factor, measured), *FACTORS)):
        if factor == due and type(scaling) is type(spec.scaling):
            continue
        wrong = with_factor(factor)
        turning = by_rule(wrong, angles)
        kept = scaled_by(turning, spec.attention_scaling / wrong.attention_scaling)
        for one in (turning, kept) if wrong.attention_scaling != spec.attention_scaling else (turning,):
            yield Mistake(
                code, sentence.format(f"{factor:.6g}", f"{due:g}" if due else ""), replace(right, turning=one)
            )


def _ramps(spec: RopeSpec, right: Rotation, angles: Angles, measured: Measured) -> Iterator[Mistake]:
    """YaRN's two betas by a grid: whole numbers and their halves are what configurations hold."""
    rule = spec.scaling
    if not isinstance(rule, Yarn):
        return
    best, found = np.inf, None
    for fast in (2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128, 256):
        for slow in (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8):
            wrong = replace(spec, scaling=replace(rule, beta_fast=fast, beta_slow=slow))
            if (gap := _gap(wrong, measured)) < best:
                best, found = gap, wrong
    if found is not None and (found.scaling.beta_fast, found.scaling.beta_slow) != (rule.beta_fast, rule.beta_slow):
        explanation = betas(rule, found.scaling.beta_fast, found.scaling.beta_slow)
        yield Mistake("RD306", explanation, replace(right, turning=by_rule(found, angles)))


def _frozen(spec: RopeSpec, right: Rotation, angles: Angles, measured: Measured) -> Iterator[Mistake]:
    """The length at which dynamic NTK stands still."""
    if not isinstance(spec.scaling, DynamicNTK):
        return
    held_at = np.arange(spec.scaling.threshold, right.rows + 1)
    gaps = [_gap(spec, measured, int(length)) for length in held_at]
    held = int(held_at[int(np.argmin(gaps))])
    rule = by_rule(spec, angles)
    explanation = f"Frequencies are those of {held} tokens at every length."
    yield Mistake("RD307", explanation, replace(right, turning=lambda places, _: rule(places, held)))


def _rules(spec: RopeSpec, right: Rotation, angles: Angles, measured: Measured) -> Iterator[Mistake]:
    """Rules nobody asked for, with the factor that fits."""
    plain = replace(spec, scaling=Default())
    stated = spec.original_max_position or spec.max_position
    originals = dict.fromkeys([stated, *(spec.max_position // part for part in (1, 2, 4, 8, 16, 32)), *CONTEXTS])
    tried = [Linear(2.0)]
    for original in (length for length in originals if length > 1):
        tried += [Llama3(2.0, 1.0, 4.0, original), Yarn(2.0, original)]
    for scaling in tried:
        if type(scaling) is not type(spec.scaling):
            sentence = f"The rule is {scaling.rope_type} with factor {{}} instead of {words_of(spec.scaling)}."
            yield from _with_factor("RD303", plain, right, angles, measured, scaling, sentence)


def _singles(spec: RopeSpec, right: Rotation, measured: Frequencies) -> Iterator[Mistake]:
    """Pairs that turn by another share of what they should; under a rule of the length, by that share at each."""
    due, found = _due(spec, measured.length), measured.values
    wrong = measured.known & (np.abs(found - due) > SINGLE * np.abs(due))
    if not wrong.any():
        return
    pairs = np.flatnonzero(wrong)
    worst = int(
        pairs[np.argmax(np.abs(found[pairs] - due[pairs]) / np.maximum(np.abs(found[pairs]), np.abs(due[pairs])))]
    )
    which = "All pairs" if wrong.all() else f"{len(pairs)} of {len(due)} pairs"
    explanation = f"{which} turn otherwise; pair {worst} by {found[worst]:.6g} a position instead of {due[worst]:.6g}."
    share = np.where(wrong, found / np.where(due == 0, 1, due), 1.0)
    added = np.where(wrong & (due == 0), found, 0.0)
    turning = _turning(spec, lambda length: _due(spec, length) * share + added)
    yield Mistake("RD309", explanation, replace(right, turning=turning))


def _lengths(spec: RopeSpec, right: Rotation, length: np.ndarray) -> Iterator[Mistake]:
    found, due = float(np.median(length)), spec.attention_scaling
    if abs(found / due - 1) < 1e-6:
        return
    explanation = f"Rotated vectors are {found / due:.6g} times as long as they should be."
    yield Mistake("RD403", explanation, replace(right, turning=scaled_by(right.turning, found / due)))


def _turning(spec: RopeSpec, frequency: Callable[[int], np.ndarray]) -> Turning:
    """`frequency` of a length comes from what was measured, so it has the direction already."""
    direction = -1.0 if spec.reversed else 1.0

    def turning(places: np.ndarray, length: int) -> Tables:
        return from_angles(spec, by_pair(spec, places) * (direction * frequency(length)))

    return turning


def _due(spec: RopeSpec, length: int | None = None) -> np.ndarray:
    return spec.inv_freq(length, np.float64) * (-1.0 if spec.reversed else 1.0)


def _gap(spec: RopeSpec, measured: Measured, length: int | None = None) -> float:
    """How far the spec's frequencies are from the measured ones: the mean of relative differences, each at most 1.

    `length` holds a rule of the length at one; else it is that of the sequence measured.
    """
    gaps = []
    for one in measured:
        due = _due(spec, length or one.length)
        telling = one.known & (due != 0)
        gaps.append(np.minimum(np.abs(one.values[telling] / due[telling] - 1), 1.0))
    return float(np.concatenate(gaps).mean()) if any(map(len, gaps)) else np.inf


def _distance(made: Callable[[float], RopeSpec], measured: Measured) -> Callable[[float], float]:
    def distance(value: float) -> float:
        try:
            return _gap(made(value), measured)
        except ConfigError:
            return np.inf

    return distance


def _search(function: Callable[[float], float], low: float, high: float) -> float:
    """Where `function` is least between two positive numbers: a grid in the logarithm, made finer around its best."""
    a, b = np.log(low), np.log(high)
    for _ in range(ROUNDS):
        grid = np.linspace(a, b, POINTS)
        best = grid[int(np.argmin([function(float(np.exp(x))) for x in grid]))]
        step = (b - a) / (POINTS - 1)
        a, b = best - step, best + step
    return float(np.exp(best))


def _snapped(value: float) -> tuple[float, ...]:
    """Round numbers near `value`, the roundest first: what people write into configurations; then `value`."""
    if not np.isfinite(value) or value <= 0:
        return ()
    magnitude = 10.0 ** np.floor(np.log10(value))
    near = [float(round(value / magnitude, digits) * magnitude) for digits in (0, 1, 2, 3, 5)]
    close = [float(f"{x:.10g}") for x in near if abs(x / value - 1) < SAME]
    return tuple(dict.fromkeys([*close, value]))
