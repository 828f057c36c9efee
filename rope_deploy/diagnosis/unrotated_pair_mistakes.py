"""Pairs that are not rotated, or only in part, while the others are rotated as they should be (RD112).

A rotation returns x · cos + x̃ · sin of x, where x̃ is the other element of each pair with its sign. Where one of the
tables is too narrow, or its last columns hold zeros or no rotation, part of that sum is missing for some elements. The
evidence shows which elements: those in error. What they may do instead is one hypothesis each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rope_deploy.diagnosis.evidence import Evidence
from rope_deploy.diagnosis.hypothesis import ApplyFunction, Mistake
from rope_deploy.rope import RopeSpec


def unrotated_pair_mistakes(evidence: Evidence) -> Iterator[Mistake]:
    """Everything that the elements in error may do instead. Where only products were seen: the last pairs."""
    spec, stated = evidence.spec, evidence.stated
    in_error = _in_error(evidence)
    for elements in _element_sets(in_error, spec.interleaved) if in_error.any() else _last_pairs(spec):
        which = _elements_text(elements, spec.interleaved)
        for what, instead in replacements(stated.apply, spec.attention_scaling, whole=bool(elements.all())):
            yield Mistake("RD112", f"{which} {what}.", replace(stated, apply=partly(stated.apply, instead, elements)))


def replacements(rotated: ApplyFunction, scale: float, *, whole: bool) -> Iterator[tuple[str, ApplyFunction]]:
    """What elements may do instead of being `rotated`. `whole`: all elements are in error; that nothing is rotated at
    all is then RD106, and left out here."""
    if not whole:
        yield "leave as they came", lambda x, cos, sin: x
        if scale != 1:
            yield "are scaled by attention_scaling and not rotated", lambda x, cos, sin: scale * x
    yield "become zero", lambda x, cos, sin: 0 * x
    yield "are multiplied by the cosine and miss the sine's part", lambda x, cos, sin: rotated(x, cos, 0 * sin)
    yield "have the sine's part and miss the cosine's", lambda x, cos, sin: rotated(x, 0 * cos, sin)
    yield "have the sine's part added and no cosine", lambda x, cos, sin: rotated(x, 0 * cos + 1, sin)


def partly(rotated: ApplyFunction, instead: ApplyFunction, elements: np.ndarray) -> ApplyFunction:
    """`instead` for the marked `elements` of a head, `rotated` for the others."""

    def apply(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        marked = np.pad(elements, (0, x.shape[-1] - len(elements)))
        return np.where(marked, instead(x, cos, sin), rotated(x, cos, sin))

    return apply


def _in_error(evidence: Evidence) -> np.ndarray:
    """Which of the first rotary_dim elements of a head are ever off by more than rounding: [rotary_dim]."""
    width = evidence.spec.rotary_dim
    found = np.zeros(width, bool)
    for one in evidence.wrong:
        if one.rotated is None:
            continue
        found |= one.elements_in_error(evidence.stated.expected(one))[:width]
    return found


def _element_sets(in_error: np.ndarray, interleaved: bool) -> Iterator[np.ndarray]:
    """Sets of elements that include all in error, the largest first and those in error alone last.

    A pair that was hardly rotated where it was seen is in error by less than rounding, so the sets that reach from the
    first pair in error to the last pair of all are tried first.
    """
    pair, member = pair_and_member(len(in_error), interleaved)
    sets = [pair >= pair[in_error].min()]
    sets += [sets[0] & (member == one) for one in (0, 1)]
    sets += [np.isin(pair, pair[in_error]), np.arange(len(in_error)) >= int(np.argmax(in_error)), in_error]
    known: list[np.ndarray] = []
    for elements in sets:
        if (elements | ~in_error).all() and not any((elements == other).all() for other in known):
            known.append(elements)
            yield elements


def _last_pairs(spec: RopeSpec) -> Iterator[np.ndarray]:
    """The last pair, the last two, and so on."""
    pair, _ = pair_and_member(spec.rotary_dim, spec.interleaved)
    for first in range(spec.rotary_dim // 2 - 1, 0, -1):
        yield pair >= first


def pair_and_member(width: int, interleaved: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pair and member (0 or 1) of each element."""
    index, pairs = np.arange(width), width // 2
    return (index // 2, index % 2) if interleaved else (index % pairs, index // pairs)


def _elements_text(elements: np.ndarray, interleaved: bool) -> str:
    """E.g. "The last 3 of 8 pairs", "The second elements of all 8 pairs", "5 of 16 elements, from 11 on,"."""
    pair, member = pair_and_member(len(elements), interleaved)
    some = np.unique(pair[elements])
    for members, begin in (((0, 1), ""), ((0,), "The first elements of "), ((1,), "The second elements of ")):
        if (elements == (np.isin(pair, some) & np.isin(member, members))).all():
            text = begin + _pairs_text(some, len(elements) // 2)
            return text[0].upper() + text[1:]
    return f"{int(elements.sum())} of {len(elements)} elements, the first of them {int(np.argmax(elements))},"


def _pairs_text(some: np.ndarray, count: int) -> str:
    if len(some) == count:
        return f"all {count} pairs"
    if some[0] == count - len(some):
        return f"the last {len(some)} of {count} pairs"
    if some[-1] == len(some) - 1:
        return f"the first {len(some)} of {count} pairs"
    return f"{len(some)} of {count} pairs, the first of them pair {some[0]},"
