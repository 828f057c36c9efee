"""Whatever form a rotation has in a file, it is found and held against the configuration; a fault in it is seen."""

from __future__ import annotations

import numpy as np
import pytest

from tests.audit.conftest import codes
from tests.audit.files import CONFIG, FORMS, POSITIONS, Decoder, config, stored

PARTIAL = config(model_type="stablelm", partial_rotary_factor=0.5)
GPTJ = config(model_type="gptj", rotary_dim=16)


@pytest.mark.parametrize("form", FORMS)
def test_a_right_table_passes_and_every_row_is_compared(form, audited):
    report = audited(Decoder(form=form, tables=stored(CONFIG)), CONFIG)
    assert report.verdict == "passed" and not report.diagnoses
    (table,) = [check for check in report.checks if check.case.startswith("table")]
    assert f"{POSITIONS + 64} rows" in table.message  # a short call, and all of the table


@pytest.mark.parametrize("form", FORMS)
def test_one_wrong_entry_in_one_row_fails_and_names_the_position(form, audited):
    cos, sin = stored(CONFIG)
    sin[97, 3] += 0.01
    report = audited(Decoder(form=form, tables=(cos, sin)), CONFIG)
    assert report.verdict == "failed"
    (table,) = [check for check in report.checks if check.case.startswith("table")]
    assert (
        table.verdict == "failed" and table.worst.position == 97 and table.worst.error == pytest.approx(0.01, rel=1e-3)
    )


@pytest.mark.parametrize("form", ["chain", "standard"])
def test_computed_cosines_pass_and_are_a_note(form, audited):
    report = audited(Decoder(form=form), CONFIG)
    assert report.verdict == "passed"
    assert any(note.startswith("RD605: 2 Cos and Sin") for note in report.notes)


@pytest.mark.parametrize("shape", [("b", 1), (1, 1), (2, 24), ("b", 24), (3, "s")], ids=str)
@pytest.mark.parametrize("tables", [None, stored(CONFIG)], ids=["computed", "stored"])
def test_a_graph_for_calls_of_one_size_passes_and_a_fault_in_it_fails(shape, tables, audited):
    assert audited(Decoder(shape=shape, tables=tables), CONFIG).verdict == "passed"
    other = config(rope_parameters={"rope_type": "default", "rope_theta": 20_000.0})
    assert codes(audited(Decoder(shape=shape, tables=tables), other)) == {"RD301"}


def test_computed_cosines_fail_where_that_is_asked(audited):
    assert codes(audited(Decoder(), CONFIG, fail_on=["RD605"])) == {"RD605"}


@pytest.mark.parametrize("form", ["chain", "standard"])
def test_a_computed_table_with_another_theta_is_named(form, audited):
    inv_freq = (1 / 500_000 ** (np.arange(0, 16, 2) / 16)).astype(np.float32)
    report = audited(Decoder(form=form, inv_freq=inv_freq), CONFIG)
    (found,) = report.diagnoses
    assert found.code == "RD301" and "500 000" in found.explanation and found.layers == (0, 1)


@pytest.mark.parametrize("form", FORMS)
def test_a_fusion_that_ignores_interleaved_is_named(form, audited):
    right, wrong = (Decoder(form=form, tables=stored(GPTJ), interleaved=kind) for kind in (True, False))
    assert audited(right, GPTJ).verdict == "passed"
    assert codes(audited(wrong, GPTJ)) == {"RD101"}


@pytest.mark.parametrize("form", ["chain", "standard", "contrib"])
def test_a_fusion_that_ignores_partial_is_named(form, audited):
    assert audited(Decoder(form=form, tables=stored(PARTIAL), rotary_dim=8), PARTIAL).verdict == "passed"
    assert codes(audited(Decoder(form=form, tables=stored(CONFIG)), PARTIAL)) == {"RD103"}


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_without_rotation_is_named(form, audited):
    (found,) = audited(Decoder(form=form, tables=stored(CONFIG), layers=(0,)), CONFIG).diagnoses
    assert found.code == "RD106" and found.layers == (1,)


def test_queries_that_turn_while_keys_do_not_are_named(audited):
    (found,) = audited(Decoder(tables=stored(CONFIG), roles=("q",)), CONFIG).diagnoses
    assert found.code == "RD108" and found.layers == (0, 1) and found.roles == ("k",)


def test_a_table_that_ends_early_is_named_unless_no_more_is_asked_for(audited):
    short = Decoder(tables=stored(CONFIG, 64))
    assert codes(audited(short, CONFIG)) == {"RD207"}
    assert audited(short, CONFIG, max_position=64).verdict == "passed"


def test_a_table_read_one_row_further_is_named(audited):
    shifted = Decoder(tables=stored(CONFIG, POSITIONS + 1), rows=lambda to, p: to.op("Add", p, to.constant(1)))
    assert "RD201" in codes(audited(shifted, CONFIG))


def test_positions_that_wrap_are_named(audited):
    wrapped = Decoder(tables=stored(CONFIG), rows=lambda to, p: to.op("Mod", p, to.constant(32)))
    assert codes(audited(wrapped, CONFIG)) == {"RD206"}


def test_rotations_that_ignore_position_ids_are_named(audited):
    decoder = Decoder(tables=stored(CONFIG), rows=lambda to, p: _counting(to))
    assert codes(audited(decoder, CONFIG)) == {"RD203"}


def _counting(to) -> str:
    length = to.op("Gather", to.op("Shape", "inputs_embeds"), to.constant(1))
    return to.op("Unsqueeze", to.op("Range", to.constant(0), length, to.constant(1)), to.constant([0]))
