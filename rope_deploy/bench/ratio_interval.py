"""Confidence intervals of the median of a few rounds, and of the quotient of two medians.

The times of rounds are skewed and have outliers, so nothing here assumes a shape: an interval of a median is a pair
of the sorted values themselves (the sign test inverted; any textbook of nonparametric statistics, e.g.
Hollander, Wolfe and Chicken, chapter 3). SciPy, which no other module needs, has the first interval
(scipy.stats.quantile_test) but none for fewer than six rounds, and not the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A median, or a quotient of medians, and its 95 % interval; all three are positive."""

    value: float
    low: float
    high: float


def median_interval(values: Sequence[float]) -> Interval:
    """The median of `values` (at least one) with its order-statistic interval: the k-th smallest to the k-th largest.

    k is the largest for which the true median lies inside with probability CONFIDENCE, if rounds are independent:
    1 − 2·P(Binomial(n, ½) < k). Fewer than six values cannot reach it; the interval is then their whole range.
    """
    ordered, n = sorted(values), len(values)
    k, outside = 1, 2 * 0.5**n
    while k + 1 <= (n + 1) // 2 and outside + 2 * math.comb(n, k) * 0.5**n <= 1 - CONFIDENCE:
        outside += 2 * math.comb(n, k) * 0.5**n
        k += 1
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return Interval(middle, ordered[k - 1], ordered[n - k])


def quotient_interval(numerator: Interval, denominator: Interval) -> Interval:
    """numerator / denominator, with the interval that follows from those of two independent measurements.

    On a logarithmic scale the deviations on each side add up as squares (MOVER: Zou and Donner, "Construction of
    confidence limits about effect measures", Statistics in Medicine 27, 2008).
    """
    value = numerator.value / denominator.value
    down = math.hypot(math.log(numerator.value / numerator.low), math.log(denominator.high / denominator.value))
    up = math.hypot(math.log(numerator.high / numerator.value), math.log(denominator.value / denominator.low))
    return Interval(value, value * math.exp(-down), value * math.exp(up))
