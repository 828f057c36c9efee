from dataclasses import replace

import numpy as np
import pytest

from rope_deploy.artifact import Site
from rope_deploy.parity.difference import worst
from rope_deploy.parity.tensor_errors import cut_to_site, product_errors, token_errors

SITE = Site(0, "q", "main", 4, 16, "BNSH", None, "x")


def test_token_errors_are_the_largest_of_each_token():
    got = np.zeros((2, 4, 3, 5))
    got[1, 2, 0, 4], got[1, 3, 0, 1] = 0.5, -2.0
    assert token_errors(got, np.zeros_like(got), 2).tolist() == [[0, 0, 0], [2, 0, 0]]


def test_token_errors_see_a_hundredfold_output():
    want = np.full((1, 2, 3), 1e-5)
    assert token_errors(want * 100, want, 1).min() > 9e-4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_an_infinite_error_on_either_side(value):
    want = np.zeros((1, 2, 3))
    got = want.copy()
    got[0, 1, 1] = value
    assert token_errors(got, want, 1).tolist() == [[0, np.inf]]
    assert token_errors(want, got, 1).tolist() == [[0, np.inf]]


def test_equal_infinities_are_equal_and_nans_are_not():
    assert token_errors(np.full((1, 1, 2), -np.inf), np.full((1, 1, 2), -np.inf), 1).max() == 0
    assert token_errors(np.full((1, 1, 2), np.nan), np.full((1, 1, 2), np.nan), 1).max() == np.inf


def test_half_precision_is_compared_in_float64():
    got = np.full((1, 1, 1), 60000, np.float16)
    assert token_errors(got, -got, 1).max() == 2 * float(got[0, 0, 0])


def test_worst_passes_over_padding_and_reports_the_position_id():
    errors = np.array([[9.0, 1.0], [2.0, 3.0]])
    real = np.array([[False, True], [True, True]])
    found = worst("rotated", "x", errors, 1.0, real=real, positions=np.array([[5, 6], [7, 8]]))
    assert (found.batch, found.position, found.error, found.failed) == (1, 8, 3.0, True)


def test_worst_is_judged_by_each_tokens_own_tolerance():
    errors, tolerances = np.array([[4.0, 2.0]]), np.array([[5.0, 1.0]])
    found = worst("rotated", "x", errors, tolerances, real=np.ones((1, 2), bool), positions=np.array([[0, 1]]))
    assert (found.position, found.error, found.tolerance, found.failed) == (1, 2.0, 1.0, True)


def test_error_equal_to_the_tolerance_passes():
    found = worst("logits", "x", np.ones((1, 1)), 1.0, real=np.ones((1, 1), bool), positions=np.zeros((1, 1), int))
    assert not found.failed


def case_of_products(rng, tokens=5):
    query, keys = rng.standard_normal((2, 4, tokens, 16)), rng.standard_normal((2, 2, tokens, 16))
    sees = np.broadcast_to(np.tril(np.ones((tokens, tokens), bool)), (2, tokens, tokens))
    return query, keys, sees, query @ np.repeat(keys, 2, axis=1).swapaxes(2, 3)


def test_products_show_a_wrong_query_and_ignore_keys_not_seen():
    query, keys, sees, products = case_of_products(np.random.default_rng(1))
    unseen = np.where(sees[:, None], products, 77)
    assert product_errors(unseen, query, keys, sees).max() < 1e-12
    query[0, 2, 3] += 0.5
    errors = product_errors(unseen, query, keys, sees)
    assert errors[0, 3] > 0.1 and np.delete(errors[0], 3).max() < 1e-12 and errors[1].max() < 1e-12


def test_products_show_a_wrong_key_to_every_query_that_sees_it():
    query, keys, sees, products = case_of_products(np.random.default_rng(1))
    keys[1, 0, 2] += 0.5
    errors = product_errors(products, query, keys, sees)
    assert errors[0].max() < 1e-12 and errors[1, :2].max() < 1e-12 and errors[1, 2:].min() > 0.05


def test_product_errors_are_in_units_of_the_query():
    query, keys, sees, products = case_of_products(np.random.default_rng(1))
    bent = query + 0.01 * keys[:, :1] / np.linalg.norm(keys[:, :1], axis=-1, keepdims=True)
    errors = product_errors(products, bent, keys, sees)
    assert errors.min() > 0.01 - 1e-9 and errors.max() < 0.011


def test_products_that_are_not_finite_are_infinitely_wrong():
    query, keys, sees, products = case_of_products(np.random.default_rng(1))
    products[0, 0, 2, 1] = np.nan
    assert product_errors(products, query, keys, sees)[0].tolist()[2] == np.inf


def test_site_that_rotates_a_slice_is_compared_with_that_slice():
    rng = np.random.default_rng(2)
    want = rng.standard_normal((1, 4, 3, 24))
    for part in (want[..., :16], want[..., 8:]):
        np.testing.assert_array_equal(cut_to_site(want, SITE, part + 1e-6), part)


def test_shared_key_is_compared_with_every_head():
    want = np.broadcast_to(np.random.default_rng(2).standard_normal((1, 1, 3, 16)), (1, 4, 3, 16))
    shared = replace(SITE, role="k", num_heads=1)
    assert cut_to_site(want, shared, want[:, :1]).shape == want.shape


@pytest.mark.parametrize("shape", [(1, 4, 3, 8), (1, 3, 3, 16), (1, 4, 2, 16), (2, 4, 3, 16), (1, 3, 4, 16)])
def test_shapes_that_do_not_fit_a_site_are_refused(shape):
    assert cut_to_site(np.zeros((1, 4, 3, 16)), SITE, np.zeros(shape)) is None


def test_a_tensor_without_elements_is_equal_to_another():
    nothing = np.zeros((2, 1, 5, 0))
    assert token_errors(nothing, nothing, 2).tolist() == [[0.0] * 5] * 2
    one = np.ones((2, 1, 5, 1))
    assert token_errors(one, 0 * one, 2).tolist() == [[1.0] * 5] * 2
