"""What half-precision angles cost is measured on the graph itself; what costs nothing is not found."""

from __future__ import annotations

import numpy as np
import pytest

from rope_deploy.graph.analysis.half_precision import Shortened
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from tests.graph.graphs import ANGLES, FORMS, frequencies, graph

ROWS = 6000
END = """
  cos32 = Cos(angle)
  sin32 = Sin(angle)
  cos = Cast <to = {code}> (cos32)
  sin = Cast <to = {code}> (sin32)
"""


def positions_through(code: int) -> str:
    return (
        f"short = Cast <to = {code}> (position_ids)\n p = Cast <to = 1> (short)\n column = Unsqueeze(p, last)\n"
        "angle = Mul(column, inv_freq)" + END
    )


def all_in(code: int) -> str:
    return (
        f"p = Cast <to = {code}> (position_ids)\n column = Unsqueeze(p, last)\n f = Cast <to = {code}> (inv_freq)\n"
        "product = Mul(column, f)\n angle = Cast <to = 1> (product)" + END
    )


ROUNDED_ANGLES = (
    "p = Cast <to = 1> (position_ids)\n column = Unsqueeze(p, last)\n wide = Mul(column, inv_freq)\n"
    "short = Cast <to = 10> (wide)\n angle = Cast <to = 1> (short)" + END
)
ROWS_OF_A_TABLE = (
    "every = Range(i0, rows, i1)\n every32 = Cast <to = 1> (every)\n e1 = Unsqueeze(every32, last)\n"
    "all_angles = Mul(e1, inv_freq)\n cos_table = Cos(all_angles)\n sin_table = Sin(all_angles)\n"
    "short = Cast <to = 10> (position_ids)\n row = Cast <to = 7> (short)\n"
    "cos = Gather(cos_table, row)\n sin = Gather(sin_table, row)\n"
)


def found(angles: str, *, rows: int = ROWS, dtype: str = "float32", constants: str = "") -> Shortened | None:
    body = "t = Identity(x)\n" + FORMS["rotate_half"][1] + "\n y = Identity(rotated)"
    model = graph(body, angles=angles, dtype=dtype, constants=constants)
    (rotation,) = raise_rotations(model, rows).rotations
    return rotation.table.shortened


def error_of(rows: int, rounded) -> float:
    """The largest error of cos and sin whose positions went through a rounding, by numpy alone."""
    positions = np.arange(rows)
    angles, expected = (p.astype(np.float64)[:, None] * frequencies(8) for p in (rounded(positions), positions))
    return max(float(np.abs(f(angles) - f(expected)).max()) for f in (np.cos, np.sin))


@pytest.mark.parametrize(("code", "name"), [(10, "float16"), (16, "bfloat16")])
def test_positions_that_pass_a_half_type_are_found(code, name):
    lost = found(positions_through(code))
    assert (lost.what, lost.dtype) == ("angles", name)
    if name == "float16":
        expected = error_of(ROWS, lambda positions: positions.astype(np.float16))
        assert lost.error == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(("code", "exact"), [(10, 2049), (16, 257)])
def test_positions_that_the_half_type_can_count_lose_nothing(code, exact):
    assert found(positions_through(code), rows=exact) is None
    assert found(positions_through(code), rows=2 * exact) is not None, "the twin: it cannot count to these"


@pytest.mark.parametrize(("code", "name"), [(10, "float16"), (16, "bfloat16")])
def test_products_in_a_half_type_are_found(code, name):
    lost = found(all_in(code), rows=100)
    assert (lost.what, lost.dtype) == ("angles", name)


def test_angles_that_are_rounded_are_found():
    assert found(ROUNDED_ANGLES).what == "angles"


def test_rows_that_are_picked_by_short_numbers_are_found():
    lost = found(ROWS_OF_A_TABLE, constants=", int64 rows = {8192}")
    assert lost.what == "angles"
    assert found(ROWS_OF_A_TABLE, rows=2000, constants=", int64 rows = {8192}") is None


def test_frequencies_stored_in_half_are_found():
    angles = (
        "p = Cast <to = 1> (position_ids)\n column = Unsqueeze(p, last)\n stored = Cast <to = 10> (inv_freq)\n"
        "f = Cast <to = 1> (stored)\n angle = Mul(column, f)" + END
    )
    assert found(angles) == Shortened("frequencies", "float16")
    assert found(angles.replace("<to = 10>", "<to = 1>")) is None


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_half_model_with_fp32_angles_loses_nothing(dtype):
    assert found(ANGLES, dtype=dtype) is None


def test_a_table_rounded_to_half_is_no_loss_of_angles():
    angles = ANGLES.replace("cos = Cast", "cos16 = Cast <to = 10> (cos32)\n cos33 = Cast <to = 1> (cos16)\n cos = Cast")
    angles = angles.replace("cos = Cast <to = {code}> (cos32)", "cos = Cast <to = {code}> (cos33)")
    assert "cos33)" in angles
    assert found(angles) is None
