"""Pairs that stand still or turn only in part, while the others turn as they should (RD112).

A rotation makes x · cos + x̃ · sin of x, x̃ being the other element of each pair with its sign. Where one of the tables
is too narrow, or its last columns hold nothing or no turn, part of that sum is missing for some elements. Which
elements is read off the evidence: those in error. What they do instead is then one hypothesis each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from rope_deploy.diagnosis.hypothesis import Apply, Mistake, Rotation
from rope_deploy.diagnosis.observation import Observation
from rope_deploy.rope import RopeSpec


def still_mistakes(spec: RopeSpec, right: Rotation, wrong: Sequence[Observation]) -> Iterator[Mistake]:
    """Everything that the elements in error may do instead. Where only products were seen: every end."""
    found = _in_error(right, wrong, spec.rotary_dim)
    for elements in _candidates(found, spec.interleaved) if found.any() else _ends(spec):
        which = _words(elements, spec.interleaved)
        for what, instead in _instead(spec, right, whole=bool(elements.all())):
            yield Mistake("RD112", f"{which} {what}.", replace(right, apply=_partly(right.apply, instead, elements)))


def _instead(spec: RopeSpec, right: Rotation, *, whole: bool) -> Iterator[tuple[str, Apply]]:
    """`whole`: all elements are in error. That nothing turns at all has a name of its own."""
    turn, scale = right.apply, spec.attention_scaling
    if not whole:
        yield "leave as they came", lambda x, cos, sin: x
        if scale != 1:
            yield "are scaled by attention_scaling and not turned", lambda x, cos, sin: scale * x
    yield "become zero", lambda x, cos, sin: 0 * x
    yield "are multiplied by the cosine and miss the sine's part", lambda x, cos, sin: turn(x, cos, 0 * sin)
    yield "have the sine's part and miss the cosine's", lambda x, cos, sin: turn(x, 0 * cos, sin)
    yield "have the sine's part added and no cosine", lambda x, cos, sin: turn(x, 0 * cos + 1, sin)


def _partly(turn: Apply, instead: Apply, elements: np.ndarray) -> Apply:
    def apply(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        where = np.pad(elements, (0, x.shape[-1] - len(elements)))
        return np.where(where, instead(x, cos, sin), turn(x, cos, sin))

    return apply


def _in_error(right: Rotation, wrong: Sequence[Observation], width: int) -> np.ndarray:
    """Which of the first `width` elements of a head are ever off by more than rounding: [width]."""
    found = np.zeros(width, bool)
    for seen in wrong:
        if seen.rotated is None:
            continue
        cos, sin = (t[:, None].astype(np.float64) for t in right.turning(seen.places, int(seen.places.max()) + 1))
        due = right.apply(seen.unrotated.astype(np.float64), cos, sin)
        within = np.abs(seen.rotated - due) <= seen.budget[:, None, :, None]
        found |= (~within & seen.real[:, None, :, None]).any(axis=(0, 1, 2))[:width]
    return found


def _candidates(found: np.ndarray, interleaved: bool) -> Iterator[np.ndarray]:
    """The elements in error; before them the pairs, and the elements, from the first of them to the last of all.

    What hardly turns where it was seen is in error by less than rounding: the end of a table goes on to its end.
    """
    pair, member = _places(len(found), interleaved)
    seen = [pair >= pair[found].min()]
    seen += [seen[0] & (member == one) for one in (0, 1)]
    seen += [np.isin(pair, pair[found]), np.arange(len(found)) >= int(np.argmax(found)), found]
    known: list[np.ndarray] = []
    for elements in seen:
        if (elements | ~found).all() and not any((elements == other).all() for other in known):
            known.append(elements)
            yield elements


def _ends(spec: RopeSpec) -> Iterator[np.ndarray]:
    """The last pair, the last two, and so on."""
    pair, _ = _places(spec.rotary_dim, spec.interleaved)
    for first in range(spec.rotary_dim // 2 - 1, 0, -1):
        yield pair >= first


def _places(width: int, interleaved: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pair and member (0 or 1) of each element."""
    index, pairs = np.arange(width), width // 2
    return (index // 2, index % 2) if interleaved else (index % pairs, index // pairs)


def _words(elements: np.ndarray, interleaved: bool) -> str:
    """E.g. "The last 3 of 8 pairs", "The second elements of all 8 pairs", "5 of 16 elements, from 11 on,"."""
    pair, member = _places(len(elements), interleaved)
    some = np.unique(pair[elements])
    for members, begin in (((0, 1), ""), ((0,), "The first elements of "), ((1,), "The second elements of ")):
        if (elements == (np.isin(pair, some) & np.isin(member, members))).all():
            said = begin + _pairs(some, len(elements) // 2)
            return said[0].upper() + said[1:]
    return f"{int(elements.sum())} of {len(elements)} elements, the first of them {int(np.argmax(elements))},"


def _pairs(some: np.ndarray, count: int) -> str:
    if len(some) == count:
        return f"all {count} pairs"
    if some[0] == count - len(some):
        return f"the last {len(some)} of {count} pairs"
    if some[-1] == len(some) - 1:
        return f"the first {len(some)} of {count} pairs"
    return f"{len(some)} of {count} pairs, the first of them pair {some[0]},"
