"""The budget covers a sound rotation whatever its input, and little more; PyTorch excuses only what it can explain."""

from dataclasses import replace

import numpy as np
import pytest

from rope_deploy.parity.float64_oracle import Oracle
from rope_deploy.parity.tolerances import ROUNDINGS
from rope_deploy.rope import RopeSpec, rotate, tables
from tests.runtimes.toy import ROWS, Twin, spec, write_toy

SHAPE = (2, 4, 32, 16)


@pytest.fixture
def manifest(tmp_path):
    return write_toy(tmp_path / "toy")


def rotated_in(dtype, x, positions):
    """As a graph of that dtype would: tables rounded once, then every product and sum."""
    cos, sin = (t[positions][:, None].astype(dtype) for t in tables(RopeSpec.from_dict(spec()), ROWS, angles="float64"))
    return rotate(x, cos, sin, interleaved=False)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("seed", range(20))
def test_a_sound_rotation_stays_within_its_budget_and_a_wrong_one_does_not(tmp_path, dtype, seed):
    manifest = write_toy(tmp_path / "toy")
    oracle = Oracle(type(manifest)(**{**vars(manifest), "dtype": dtype}))
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(SHAPE) * 10.0 ** rng.uniform(-3, 3)).astype(dtype)
    positions = rng.integers(0, ROWS, (SHAPE[0], SHAPE[2]))
    site = manifest.sites[0]
    exact = oracle.rotated(site, x, positions)
    budget = oracle.rounding(site, exact, positions)
    gap = np.abs(rotated_in(dtype, x, positions) - exact).max(axis=(1, 3))
    assert (gap <= budget).all()
    assert (gap.max(axis=1) > budget.max(axis=1) / 30).all(), "a budget this wide would hide something"
    off = np.abs(rotated_in(dtype, x, (positions + 1) % ROWS) - exact).max(axis=(1, 3))
    assert (off > budget).all()


def test_a_token_of_zeros_has_a_budget(manifest):
    oracle, positions = Oracle(manifest), np.zeros((1, 3), int)
    exact = oracle.rotated(manifest.sites[0], np.zeros((1, 4, 3, 16), np.float32), positions)
    assert (oracle.rounding(manifest.sites[0], exact, positions) > 0).all()


def test_pytorchs_own_error_widens_the_budget_up_to_what_float32_angles_explain(manifest):
    oracle, site = Oracle(manifest), manifest.sites[0]
    positions = np.array([[0, 30]])
    exact = np.ones((1, 4, 2, 16))
    plain = oracle.budget(site, exact, positions, None)
    np.testing.assert_array_equal(plain, oracle.rounding(site, exact, positions))
    np.testing.assert_array_equal(oracle.budget(site, exact, positions, np.zeros((1, 2))), plain)
    little = oracle.budget(site, exact, positions, np.full((1, 2), 2e-6))
    assert little[0, 0] == plain[0, 0] and little[0, 1] == 4e-6
    much = oracle.budget(site, exact, positions, np.full((1, 2), 0.5))
    assert much[0, 0] == plain[0, 0]
    assert much[0, 1] == pytest.approx((ROUNDINGS + 4 * 30) * 2.0**-24)


def test_pytorchs_own_error_is_reported(tmp_path):
    from tests.parity.test_run_cases import by_case, judged

    record = by_case(judged(tmp_path, only=["prefill"]))["prefill"]
    assert 0 < record.oracle_error < 1e-6 and 0 < record.reference_error < 1e-6


def test_a_reference_that_breaks_the_rule_is_reported_and_excuses_nothing(tmp_path):
    from tests.parity.test_run_cases import by_case, judged
    from tests.runtimes.toy import LAYERS, Faults

    wrong = Faults(theta=dict.fromkeys(range(LAYERS), 500.0))
    record = by_case(judged(tmp_path, "onnx", wrong, reference=Twin(500.0), only=["prefill"]))["prefill"]
    assert record.verdict == "failed"
    assert record.reference_error > 1e-2 and record.oracle_error > 1e-2


def test_a_rule_of_two_factors_and_one_set_of_frequencies_has_two_tables(manifest):
    """Phi-3.5-MoE's: beyond the original context vectors are longer, and rotated as before."""
    (rotation,) = manifest.rotations
    pairs = rotation.spec["rotary_dim"] // 2
    rule = {"rope_type": "longrope", "rope_theta": 10_000.0, "original_max_position_embeddings": 8, "factor": 4.0}
    rule |= {"short_factor": [1.0] * pairs, "long_factor": [1.0] * pairs, "short_mscale": 1.25, "long_mscale": 1.5}
    oracle = Oracle(replace(manifest, rotations=(replace(rotation, spec={**rotation.spec, "rope_parameters": rule}),)))
    site, x = manifest.sites[0], np.ones(SHAPE)
    for start, factor in ((0, 1.25), (0, 1.25), (8, 1.5), (0, 1.25)):
        positions = np.broadcast_to(start + np.arange(SHAPE[2]) % 8, (SHAPE[0], SHAPE[2]))
        rotated = oracle.rotated(site, x, positions)
        np.testing.assert_allclose(np.linalg.norm(rotated, axis=-1), factor * np.linalg.norm(x, axis=-1))
