"""As far as PyTorch's own half run and what chance adds; one noisy token passes, a shift of all does not."""

from __future__ import annotations

import numpy as np
import pytest

from rope_deploy.parity.perturbed_runs import Patience, PerturbedRuns
from rope_deploy.parity.tolerances import (
    PATIENCE,
    PERTURBED_RUNS,
    TWICE_ROUNDED,
    allowed_by_chance,
    chance_bound,
    log_ratios,
    pooled_excess,
)

TOKENS = (3, 16)
REAL, LEAST = np.ones(TOKENS, bool), np.full(TOKENS, 1e-6)


def noise(seed, size=1e-3, spread=0.42):
    return size * np.exp(spread * np.random.default_rng(seed).standard_normal(TOKENS))


def passes(ours, theirs, again=(), real=REAL):
    return not (np.where(real, ours, 0) > allowed_by_chance(ours, theirs, LEAST, real, again)).any()


def test_more_tokens_allow_less_and_never_less_than_two_roundings_for_one():
    limits = [chance_bound(n) for n in (1, 2, 17, 90, 10**8)]
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] == pytest.approx(TWICE_ROUNDED, abs=1e-3)
    assert limits[0] < 8


def test_noise_like_pytorchs_own_is_never_called_wrong():
    alarms = [seed for seed in range(2000) if not passes(noise(seed), noise(seed + 10**6))]
    assert not alarms


def test_one_noisy_token_passes_and_a_shift_of_all_fails():
    theirs = noise(1)
    ours = noise(2)
    ours[1, 4] = 4 * max(theirs[1, 4], 1e-3)
    assert passes(ours, theirs)
    assert not passes(2.5 * noise(3), theirs)


def test_one_token_far_off_fails():
    ours = noise(2)
    ours[1, 4] = 2e-2
    assert not passes(ours, noise(1))


def test_what_padding_holds_does_not_count():
    real, ours = REAL.copy(), noise(2)
    real[1, 4], ours[1, 4] = False, np.inf
    assert passes(ours, noise(1), real=real)
    assert not passes(ours, noise(1))


def test_what_pytorch_cannot_compute_excuses_nobody():
    theirs, ours = noise(1), noise(2)
    theirs[0, 0] = np.inf
    assert passes(ours, theirs)
    ours[0, 0] = 1.0
    assert not passes(ours, theirs)
    assert not passes(ours, np.full(TOKENS, np.nan))


def test_a_flip_that_chance_makes_too_is_chance_and_any_other_is_not():
    theirs, ours, other = noise(1), noise(2), noise(3)
    ours[1, 4], other[1, 4] = 1.5, 1.4
    assert not passes(ours, theirs, [noise(4)])
    assert passes(ours, theirs, [noise(4), other])
    ours[1, 5] = 1.5
    assert not passes(ours, theirs, [noise(4), other])


def test_chance_does_not_excuse_a_shift():
    assert not passes(4 * noise(2), noise(1), [1.5 * noise(seed) for seed in range(3, 3 + PERTURBED_RUNS)])


def test_rounding_of_the_result_is_no_error():
    exact = np.zeros(TOKENS)
    assert passes(np.full(TOKENS, 1e-6), exact)
    assert not passes(np.full(TOKENS, 1e-4), exact)


def test_the_call_fails_by_as_much_as_all_tokens_are_too_far():
    ours, theirs = np.full(TOKENS, 5e-3), np.full(TOKENS, 1e-3)
    tolerance = allowed_by_chance(ours, theirs, LEAST, REAL, ())
    np.testing.assert_allclose(ours / tolerance, 5 / chance_bound(REAL.sum()))


def test_pooled_error_is_known_only_beyond_the_limit():
    theirs = np.full(TOKENS, 1e-3)
    assert pooled_excess(noise(1), theirs, LEAST, REAL)[1] is None
    beyond, common = pooled_excess(3 * theirs, theirs, LEAST, REAL)
    assert beyond == pytest.approx(3 / chance_bound(REAL.sum()))
    assert common == pytest.approx(1e-3)


def test_ratios_are_of_tokens_that_tell():
    ours, theirs = np.full(TOKENS, 2e-3), np.full(TOKENS, 1e-3)
    ours[0], theirs[0] = 0, 0
    assert log_ratios(ours, theirs, LEAST, REAL).tolist() == pytest.approx([np.log(2)] * 32)


def test_runs_are_made_when_they_are_needed_and_no_more():
    made = []
    chance = PerturbedRuns(lambda seed: made.append(seed) or {"seed": seed}, Patience())
    assert made == []
    assert next(iter(chance)) == {"seed": 0}
    assert len(list(chance)) == PERTURBED_RUNS == len(made)
    assert len(list(chance)) == PERTURBED_RUNS == len(made)


def test_chance_is_not_asked_once_the_call_is_wrong_or_patience_has_ended():
    closed = PerturbedRuns(lambda seed: {}, Patience())
    closed.close()
    assert list(closed) == []
    patience = Patience()
    for _ in range(PATIENCE):
        chance = PerturbedRuns(lambda seed: {}, patience)
        assert len(list(chance)) == PERTURBED_RUNS
        chance.end(explained=False)
    assert list(PerturbedRuns(lambda seed: {}, patience)) == []


def test_an_explained_call_costs_no_patience():
    patience = Patience()
    for _ in range(2 * PATIENCE):
        chance = PerturbedRuns(lambda seed: {}, patience)
        list(chance)
        chance.end(explained=True)
    assert patience.left == PATIENCE
