"""A table that follows its rule passes in every dtype; one that does not is told what is wrong with it."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from rope_deploy.parity.diagnosis import diagnose_table
from rope_deploy.rope import Default, DynamicNTK, Linear, LongRope, RopeSpec, Yarn, tables

ROWS = 2048
LLAMA = RopeSpec(64, 64, False, 1e6, Default(), ROWS)
YARN = RopeSpec(64, 64, False, 1e4, Yarn(4.0, 512), ROWS)
SHORT, LONG = tuple(1 + 0.02 * i for i in range(16)), tuple(1 + 0.3 * i for i in range(16))
LONGROPE = RopeSpec(32, 32, False, 1e4, LongRope(SHORT, LONG, 256, 8.0), ROWS)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("angles", ["model", "float64"])
@pytest.mark.parametrize("spec", [LLAMA, YARN], ids=["default", "yarn"])
def test_a_table_by_its_rule_passes(spec, angles, dtype):
    cos, sin = (table.astype(dtype) for table in tables(spec, ROWS, angles=angles))
    assert diagnose_table(cos, sin, spec) is None


def half(table):
    return table.astype(np.float16).astype(np.float32)


WRONG = {
    "RD301": tables(replace(LLAMA, rope_theta=1e5), ROWS),
    "RD303": tables(replace(LLAMA, scaling=Linear(3.0)), ROWS),
    "RD102": (tables(LLAMA, ROWS)[0], -tables(LLAMA, ROWS)[1]),
    "RD201": tuple(table[1:] for table in tables(LLAMA, ROWS + 1)),
    "RD503": tuple(half(table) for table in tables(LLAMA, ROWS)),
    "RD207": tuple(table[np.minimum(np.arange(ROWS), 700)] for table in tables(LLAMA, ROWS)),
    "RD206": tuple(table[np.arange(ROWS) % 512] for table in tables(LLAMA, ROWS)),
    "RD403": tuple(1.25 * table for table in tables(LLAMA, ROWS)),
    "RD106": (np.ones((ROWS, 32), np.float32), np.zeros((ROWS, 32), np.float32)),
}


@pytest.mark.parametrize("code", WRONG)
def test_a_wrong_table_is_named(code):
    found = diagnose_table(*WRONG[code], LLAMA)
    assert found.code == code and found.error > 1 and found.residual <= 4


def test_a_single_wrong_row_is_found_though_no_mistake_explains_it():
    cos, sin = tables(LLAMA, ROWS)
    cos[1301, 3] += 0.01
    found = diagnose_table(cos, sin, LLAMA)
    assert found.code == "RD900" and found.row == 1301


def test_a_table_of_another_width_says_so():
    found = diagnose_table(*tables(replace(LLAMA, rotary_dim=32), ROWS), LLAMA)
    assert found.code == "RD103" and "32 elements" in found.explanation and found.residual == 0


def test_yarn_without_its_attention_scaling():
    cos, sin = (table / YARN.attention_scaling for table in tables(YARN, ROWS))
    assert diagnose_table(cos, sin, YARN).code == "RD401"


def test_each_longrope_table_is_held_against_the_length_it_serves():
    short, long = tables(LONGROPE, 256, seq_len=256), tables(LONGROPE, ROWS, seq_len=ROWS)
    assert diagnose_table(*short, LONGROPE, length=256) is None
    assert diagnose_table(*long, LONGROPE, length=ROWS) is None
    assert diagnose_table(*(t[:256] for t in long), LONGROPE, length=256).code == "RD307"


def test_dynamic_ntk_frozen_at_its_original_context():
    spec = replace(LLAMA, rope_theta=1e4, scaling=DynamicNTK(4.0, 256))
    frozen = tables(spec, ROWS, seq_len=256)
    found = diagnose_table(*frozen, spec, length=ROWS)
    assert found.code == "RD307" and "256" in found.explanation
