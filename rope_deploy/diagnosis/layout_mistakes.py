"""Mistakes in how a rotation is applied: which elements form a pair, in which direction, how often (RD1xx)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.hypothesis import ApplyFunction, Mistake, angles_of_rule, apply_in_layout
from rope_deploy.results.wording import LAYOUTS
from rope_deploy.rope import Proportional, RopeSpec, rotate


def application_mistakes(evidence: Evidence) -> Iterator[Mistake]:
    """The right tables, applied wrongly."""
    spec, stated = evidence.spec, evidence.stated
    head, width = spec.head_dim, spec.rotary_dim
    rotated = stated.apply

    def applied(code: str, explanation: str, apply: ApplyFunction) -> Mistake:
        return Mistake(code, explanation, replace(stated, apply=apply))

    yield applied("RD106", "The vectors leave as they came.", lambda x, cos, sin: x)
    if spec.attention_scaling != 1:
        scaled = "The vectors are scaled by attention_scaling and not rotated."
        yield applied("RD106", scaled, lambda x, cos, sin: _scaled(x, spec.attention_scaling, width))
    twice = "They are rotated twice as far."
    yield applied("RD107", twice, lambda x, cos, sin: rotated(rotated(x, cos, sin), cos, sin))
    yield applied("RD102", "The sine has the wrong sign.", lambda x, cos, sin: rotated(x, cos, -sin))
    layouts = f"The pairs are {LAYOUTS[not spec.interleaved]}; the rule's are {LAYOUTS[spec.interleaved]}."
    yield applied("RD101", layouts, apply_in_layout(not spec.interleaved))
    if width < head:
        explanation = f"The last {width} of {head} elements are rotated; the rule rotates the first."
        yield applied("RD104", explanation, lambda x, cos, sin: _at_end(rotated, x, cos, sin))
        across = f"Pairs lie {head // 2} apart, across the whole head; the rule pairs within the first {width}."
        yield applied("RD105", across, _across)
    if isinstance(spec.scaling, Proportional):
        pairs = int(np.count_nonzero(spec.inv_freq()))
        within = f"Pairs lie {pairs} apart, within the first {2 * pairs}; the rule pairs across the whole head."
        yield applied("RD105", within, lambda x, cos, sin: rotated(x, cos[..., :pairs], sin[..., :pairs]))


def width_mistakes(evidence: Evidence) -> Iterator[Mistake]:
    """Another rotary_dim: with the same frequencies cut short or stretched, or with frequencies of its own."""
    spec, stated = evidence.spec, evidence.stated
    for width in range(2, spec.head_dim + 1, 2):
        if width == spec.rotary_dim:
            continue
        explanation = f"rotary_dim is {width} instead of {spec.rotary_dim}."
        if width < spec.rotary_dim:
            yield Mistake("RD103", explanation, replace(stated, apply=_cut(spec.interleaved, width // 2)))
        if own := _with_width(spec, width):
            yield Mistake("RD103", explanation, replace(stated, angle_function=angles_of_rule(own, evidence.angles)))


def _with_width(spec: RopeSpec, width: int) -> RopeSpec | None:
    """The same rule for another width; None for rules that state a number for each pair."""
    fitting = not spec.scaling.faults(width) and not isinstance(spec.scaling, Proportional)
    return replace(spec, rotary_dim=width, exponent_dim=0) if fitting else None


def _cut(interleaved: bool, pairs: int) -> ApplyFunction:
    return lambda x, cos, sin: rotate(x, cos[..., :pairs], sin[..., :pairs], interleaved=interleaved)


def _scaled(x: np.ndarray, factor: float, width: int) -> np.ndarray:
    out = x.copy()
    out[..., :width] *= factor
    return out


def _at_end(rotated: ApplyFunction, x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    width = 2 * cos.shape[-1]
    return np.concatenate([x[..., :-width], rotated(x[..., -width:], cos, sin)], axis=-1)


def _across(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Pairs (i, i + H/2); those without a frequency are not rotated."""
    unrotated = [(0, 0)] * (cos.ndim - 1) + [(0, x.shape[-1] // 2 - cos.shape[-1])]
    return rotate(x, np.pad(cos, unrotated, constant_values=1.0), np.pad(sin, unrotated), interleaved=False)
