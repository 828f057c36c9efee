"""Which elements of a head are in error is judged element by element, whatever the errors of tokens are judged by."""

from dataclasses import replace

import numpy as np

from rope_deploy.diagnosis.observation import Observation

ROUNDING = 1e-3
EXACT = np.ones((1, 2, 3, 4))


def observed(y: np.ndarray) -> Observation:
    """One call of three tokens, the last of them padding."""
    positions, real = np.arange(3)[None], np.array([[True, True, False]])
    return Observation(
        "case", None, EXACT, y, positions, real, real, np.full((1, 3), ROUNDING), lambda expected: np.zeros((1, 3))
    )


def off_by(error: float, token: int = 1) -> np.ndarray:
    """EXACT with the third element of a head off by `error` in one token, and each other one by half of ROUNDING."""
    y = EXACT + ROUNDING / 2
    y[0, 1, token, 2] = 1 + error
    return y


def test_more_than_rounding_is_an_error_of_that_element_alone():
    assert observed(off_by(2 * ROUNDING)).elements_in_error(EXACT).tolist() == [False, False, True, False]
    assert observed(off_by(np.nan)).elements_in_error(EXACT).tolist() == [False, False, True, False]


def test_padding_does_not_count():
    assert not observed(off_by(1.0, token=2)).elements_in_error(EXACT).any()


def test_a_budget_of_all_tokens_together_does_not_judge_an_element():
    together = replace(observed(off_by(2 * ROUNDING)), budget=np.full((1, 3), ROUNDING / 100))
    assert together.elements_in_error(EXACT).all()
    alone = replace(together, element_budget=np.full((1, 3), ROUNDING))
    assert alone.elements_in_error(EXACT).tolist() == [False, False, True, False]
