"""A hypothesis of what a site did: which positions it used, which angles it took there, and how it applied them.

Every mistake changes one of these three and leaves the others as the rule states them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from rope_deploy.diagnosis.observation import Observation
from rope_deploy.rope import Angles, RopeSpec, cos_sin, rotate

CosSin = tuple[np.ndarray, np.ndarray]
# Observation -> positions [B, S], or [A, B, S] where positions have several axes
PositionFunction = Callable[[Observation], np.ndarray]
# such positions, length of the sequence in tokens -> cos and sin of the angles, [B, S, R/2]
AngleFunction = Callable[[np.ndarray, int], CosSin]
# x [B, N, S, H], cos and sin [B, 1, S, R/2] -> [B, N, S, H]
ApplyFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

# A wrong table may be made in another order of roundings than ours: its frequencies may be some fp32 units apart.
FREQUENCY_ROUNDINGS = 4
UNIT_ROUNDOFF = 2.0**-24


@dataclass(frozen=True)
class Hypothesis:
    """What a site may have done. `rows` is the size of the table."""

    positions_used: PositionFunction
    angle_function: AngleFunction
    apply: ApplyFunction
    rows: int

    def expected(self, observation: Observation) -> np.ndarray:
        """The output that this hypothesis predicts for the observed input, float64 [B, N, S, H]."""
        positions = self.positions_used(observation)
        cos, sin = self.angle_function(positions, int(positions.max()) + 1)
        cos, sin = (table[:, None].astype(np.float64) for table in (cos, sin))
        return self.apply(observation.unrotated.astype(np.float64), cos, sin)

    def ratio(self, observation: Observation, *, exactly: bool = False) -> float:
        """The largest error that this hypothesis leaves in `observation`, in units of what rounding explains."""
        return float(self.ratios(observation, exactly=exactly).max(initial=0.0))

    def ratios(self, observation: Observation, *, exactly: bool = False) -> np.ndarray:
        """The same of each token, [B, S]; zero for tokens that do not count.

        `exactly` allows the rounding of a sound rotation alone; otherwise also that of frequencies made elsewhere.
        A token whose position lies outside the table is expected to be NaN, as our graphs have it, or what a longer
        table would give.
        """
        positions = self.positions_used(observation)
        inside, reach = (positions >= 0) & (positions < self.rows), np.abs(positions)
        if positions.ndim == 3:
            inside, reach = inside.all(axis=0), reach.max(axis=0)
        expected = self.expected(observation)
        if observation.rotated is not None:
            void = ~inside & np.isnan(observation.rotated).any(axis=(1, 3))
            expected = np.where(void[:, None, :, None], np.nan, expected)
        budget = observation.budget
        if not exactly:
            largest = np.abs(np.nan_to_num(expected)).max(axis=(1, 3))
            budget = budget + largest * reach * (FREQUENCY_ROUNDINGS * UNIT_ROUNDOFF)
        ratio = observation.errors(expected) / np.maximum(budget, np.finfo(np.float64).tiny)
        ratio = np.where(np.isnan(ratio), np.inf, ratio)
        return np.where(observation.real & self._counted(observation, expected, exactly), ratio, 0.0)

    @staticmethod
    def _counted(observation: Observation, expected: np.ndarray, exactly: bool) -> np.ndarray:
        """Tokens that tell something, [B, S]: not those whose input is NaN, or whose output is NaN as expected."""
        void = np.isnan(observation.unrotated).any(axis=(1, 3))
        if observation.rotated is not None:
            void |= np.isnan(expected).any(axis=(1, 3)) & np.isnan(observation.rotated).any(axis=(1, 3))
        elif not exactly:  # of products q·k, one key that is NaN spoils all, whatever the query was
            void |= np.isinf(observation.errors(np.zeros_like(observation.unrotated)))
        return ~void

    def residual(self, observations: Iterable[Observation], limit: float = np.inf) -> float:
        """The largest ratio over all `observations`. It stops at the first that exceeds `limit`."""
        worst = 0.0
        for one in observations:
            worst = max(worst, self.ratio(one))
            if worst > limit:
                break
        return worst


@dataclass(frozen=True)
class Mistake:
    """A code of `results/codes.py`, one sentence, and what a site does that makes this mistake."""

    code: str
    explanation: str
    hypothesis: Hypothesis


def fed_positions(observation: Observation) -> np.ndarray:
    """The positions that were fed, which a sound site uses."""
    return observation.positions_by_axis


def angles_of_rule(spec: RopeSpec, angles: Angles = "model") -> AngleFunction:
    """The cos and sin of `spec` at given positions."""

    def angle_function(positions: np.ndarray, length: int) -> CosSin:
        return cos_sin(spec, positions, angles=angles, seq_len=length)

    return angle_function


def apply_in_layout(interleaved: bool) -> ApplyFunction:
    """The rotation of pairs in one layout. NaN where the angles are wider than the head."""

    def apply(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        if 2 * cos.shape[-1] > x.shape[-1]:
            return np.full(x.shape, np.nan)  # another layer's rule, wider than this head: it explains nothing
        return rotate(x, cos, sin, interleaved=interleaved)

    return apply


def hypothesis_of_rule(spec: RopeSpec, rows: int, angles: Angles = "model") -> Hypothesis:
    """What a site that follows `spec` does, with a table of `rows` rows."""
    return Hypothesis(fed_positions, angles_of_rule(spec, angles), apply_in_layout(spec.interleaved), rows)
