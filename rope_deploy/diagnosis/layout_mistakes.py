"""Mistakes in how a turn is applied: which elements form a pair, in which direction, how often (RD1xx)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rope_deploy.diagnosis.hypothesis import Apply, Mistake, Rotation, by_rule, in_layout
from rope_deploy.rope import Angles, Proportional, RopeSpec, rotate

LAYOUT = {True: "interleaved", False: "half-split"}


def shape_mistakes(spec: RopeSpec, right: Rotation) -> Iterator[Mistake]:
    """Everything that is applied wrongly with the right tables."""
    head, width = spec.head_dim, spec.rotary_dim
    turn = right.apply

    def planted(code: str, explanation: str, apply: Apply) -> Mistake:
        return Mistake(code, explanation, replace(right, apply=apply))

    yield planted("RD106", "The vectors leave as they came.", lambda x, cos, sin: x)
    if spec.attention_scaling != 1:
        scaled = "The vectors are scaled by attention_scaling and not turned."
        yield planted("RD106", scaled, lambda x, cos, sin: _scaled(x, spec.attention_scaling, width))
    yield planted("RD107", "They are turned twice as far.", lambda x, cos, sin: turn(turn(x, cos, sin), cos, sin))
    yield planted("RD102", "The sine has the wrong sign.", lambda x, cos, sin: turn(x, cos, -sin))
    told, due = LAYOUT[not spec.interleaved], LAYOUT[spec.interleaved]
    yield planted("RD101", f"The pairs are {told}; the rule's are {due}.", in_layout(not spec.interleaved))
    if width < head:
        explanation = f"The last {width} of {head} elements are turned; the rule turns the first."
        yield planted("RD104", explanation, lambda x, cos, sin: _at_end(turn, x, cos, sin))
        across = f"Pairs lie {head // 2} apart, across the whole head; the rule pairs within the first {width}."
        yield planted("RD105", across, lambda x, cos, sin: _across(x, cos, sin))
    if isinstance(spec.scaling, Proportional):
        turning = int(np.count_nonzero(spec.inv_freq()))
        within = f"Pairs lie {turning} apart, within the first {2 * turning}; the rule pairs across the whole head."
        yield planted("RD105", within, lambda x, cos, sin: turn(x, cos[..., :turning], sin[..., :turning]))


def width_mistakes(spec: RopeSpec, right: Rotation, angles: Angles) -> Iterator[Mistake]:
    """Another rotary_dim: with the same frequencies cut short or stretched, or with frequencies of its own."""
    for width in range(2, spec.head_dim + 1, 2):
        if width == spec.rotary_dim:
            continue
        explanation = f"rotary_dim is {width} instead of {spec.rotary_dim}."
        if width < spec.rotary_dim:
            yield Mistake("RD103", explanation, replace(right, apply=_cut(spec.interleaved, width // 2)))
        if own := _with_width(spec, width):
            yield Mistake("RD103", explanation, replace(right, turning=by_rule(own, angles)))


def _with_width(spec: RopeSpec, width: int) -> RopeSpec | None:
    """The same rule for another width; None for rules that state a number for each pair."""
    fitting = not spec.scaling.faults(width) and not isinstance(spec.scaling, Proportional)
    return replace(spec, rotary_dim=width, exponent_dim=0) if fitting else None


def _cut(interleaved: bool, pairs: int) -> Apply:
    return lambda x, cos, sin: rotate(x, cos[..., :pairs], sin[..., :pairs], interleaved=interleaved)


def _scaled(x: np.ndarray, factor: float, width: int) -> np.ndarray:
    out = x.copy()
    out[..., :width] *= factor
    return out


def _at_end(turn: Apply, x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    width = 2 * cos.shape[-1]
    return np.concatenate([x[..., :-width], turn(x[..., -width:], cos, sin)], axis=-1)


def _across(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Pairs (i, i + H/2), the ones without a frequency standing still."""
    still = [(0, 0)] * (cos.ndim - 1) + [(0, x.shape[-1] // 2 - cos.shape[-1])]
    return rotate(x, np.pad(cos, still, constant_values=1.0), np.pad(sin, still), interleaved=False)
