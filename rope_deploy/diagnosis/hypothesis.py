"""A rotation as a hypothesis: where tokens stand, how far pairs turn there, how the turn is applied.

Every mistake changes one of these three and leaves the others as they should be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from rope_deploy.diagnosis.observation import Observation
from rope_deploy.rope import Angles, RopeSpec, cos_sin, rotate

Tables = tuple[np.ndarray, np.ndarray]
# Observation -> positions [B, S], or [A, B, S] where positions have several axes
Place = Callable[[Observation], np.ndarray]
# such positions, length of the sequence in tokens -> cos and sin [B, S, R/2]
Turning = Callable[[np.ndarray, int], Tables]
# x [B, N, S, H], cos and sin [B, 1, S, R/2] -> [B, N, S, H]
Apply = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

# A wrong table may be made in another order of roundings than ours: its frequencies may be some fp32 units apart.
FREQUENCY_ROUNDINGS = 4
SINGLE = 2.0**-24


@dataclass(frozen=True)
class Rotation:
    """What a site may have done. `rows` is the size of the table."""

    place: Place
    turning: Turning
    apply: Apply
    rows: int

    def ratio(self, seen: Observation, *, exactly: bool = False) -> float:
        """The largest error left in `seen` if this is what happened, in units of what rounding explains."""
        return float(self.ratios(seen, exactly=exactly).max(initial=0.0))

    def ratios(self, seen: Observation, *, exactly: bool = False) -> np.ndarray:
        """The same of each token, [B, S]; zero for those that do not count.

        `exactly` allows the rounding of a sound rotation alone; otherwise also that of frequencies made elsewhere.
        A token placed outside the table is no number, as our graphs have it, or what a longer table would give.
        """
        places = self.place(seen)
        inside, reach = (places >= 0) & (places < self.rows), np.abs(places)
        if places.ndim == 3:
            inside, reach = inside.all(axis=0), reach.max(axis=0)
        cos, sin = (table[:, None].astype(np.float64) for table in self.turning(places, int(places.max()) + 1))
        expected = self.apply(seen.unrotated.astype(np.float64), cos, sin)
        if seen.rotated is not None:
            void = ~inside & np.isnan(seen.rotated).any(axis=(1, 3))
            expected = np.where(void[:, None, :, None], np.nan, expected)
        budget = seen.budget
        if not exactly:
            largest = np.abs(np.nan_to_num(expected)).max(axis=(1, 3))
            budget = budget + largest * reach * (FREQUENCY_ROUNDINGS * SINGLE)
        ratio = seen.errors(expected) / np.maximum(budget, np.finfo(np.float64).tiny)
        ratio = np.where(np.isnan(ratio), np.inf, ratio)
        return np.where(seen.real & self._telling(seen, expected, exactly), ratio, 0.0)

    @staticmethod
    def _telling(seen: Observation, expected: np.ndarray, exactly: bool) -> np.ndarray:
        """Tokens that say something, [B, S]: not those that came in as no number, or came out as expected of one."""
        void = np.isnan(seen.unrotated).any(axis=(1, 3))
        if seen.rotated is not None:
            void |= np.isnan(expected).any(axis=(1, 3)) & np.isnan(seen.rotated).any(axis=(1, 3))
        elif not exactly:  # of products, one key without a number spoils all, whatever the query was
            void |= np.isinf(seen.errors(np.zeros_like(seen.unrotated)))
        return ~void

    def residual(self, evidence: Iterable[Observation], limit: float = np.inf) -> float:
        """The largest ratio over all of `evidence`; whatever is above `limit` is given up at once."""
        worst = 0.0
        for seen in evidence:
            worst = max(worst, self.ratio(seen))
            if worst > limit:
                break
        return worst


@dataclass(frozen=True)
class Mistake:
    """A code of `report.codes`, one sentence, and what a site does that makes it."""

    code: str
    explanation: str
    rotation: Rotation


def as_given(seen: Observation) -> np.ndarray:
    return seen.places


def by_rule(spec: RopeSpec, angles: Angles = "model") -> Turning:
    """The tables of `spec`, evaluated where tokens stand."""

    def turning(places: np.ndarray, length: int) -> Tables:
        return cos_sin(spec, places, angles=angles, seq_len=length)

    return turning


def in_layout(interleaved: bool) -> Apply:
    def apply(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        if 2 * cos.shape[-1] > x.shape[-1]:
            return np.full(x.shape, np.nan)  # another layer's rule, wider than this head: it explains nothing
        return rotate(x, cos, sin, interleaved=interleaved)

    return apply


def sound(spec: RopeSpec, rows: int, angles: Angles = "model") -> Rotation:
    """What a site with this rule should do."""
    return Rotation(as_given, by_rule(spec, angles), in_layout(spec.interleaved), rows)
