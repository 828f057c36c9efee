"""An interval holds the true median as often as it says, and a quotient of two the true quotient."""

import math

import numpy as np
import pytest

from rope_deploy.bench.ratio_interval import Interval, median_interval, quotient_interval


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(1, 1, 1), (2, 1, 2), (5, 1, 5), (6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (20, 6, 15)],
)
def test_the_bounds_are_those_of_the_tables(count, low, high):
    """As printed for the sign test: k = 1 for n up to 8, 2 for 9 to 11, 6 for 20."""
    found = median_interval(range(count, 0, -1))
    assert (found.low, found.high) == (low, high)
    assert found.value == (count + 1) / 2


def skewed(rng, shape, median=1.0):
    """Times as a busy machine makes them: a floor and a long tail."""
    return median * np.exp(0.1 * (rng.exponential(1, shape) - math.log(2)))


@pytest.mark.parametrize("count", [6, 10, 21])
def test_nineteen_of_twenty_intervals_hold_the_median(count):
    rng = np.random.default_rng(count)
    found = [median_interval(row) for row in skewed(rng, (2000, count))]
    share = np.mean([interval.low <= 1 <= interval.high for interval in found])
    assert 0.94 <= share <= 0.99


def test_an_interval_of_the_middle_half_would_be_caught_as_too_narrow():
    """The twin: quartiles are no interval of a median, and the test above would notice."""
    rows = skewed(np.random.default_rng(0), (2000, 10))
    assert np.mean([np.quantile(row, 0.45) <= 1 <= np.quantile(row, 0.55) for row in rows]) < 0.94


def test_a_quotient_holds_the_true_slowdown():
    rng = np.random.default_rng(1)
    pairs = [(median_interval(skewed(rng, 10, 1.3)), median_interval(skewed(rng, 10))) for _ in range(1000)]
    found = [quotient_interval(now, before) for now, before in pairs]
    assert np.mean([interval.low <= 1.3 <= interval.high for interval in found]) >= 0.94
    assert np.mean([interval.low <= 1.0 <= interval.high for interval in found]) < 0.1


def test_a_quotient_of_exact_values_is_exact():
    assert quotient_interval(Interval(3, 3, 3), Interval(2, 2, 2)) == Interval(1.5, 1.5, 1.5)


def test_the_noise_of_either_side_widens_the_quotient_on_its_own_side():
    found = quotient_interval(Interval(1, 0.9, 1), Interval(1, 1, 1))
    assert found.low == pytest.approx(0.9) and found.high == 1
    found = quotient_interval(Interval(1, 1, 1), Interval(1, 0.9, 1))
    assert found.low == 1 and found.high == pytest.approx(1 / 0.9)
