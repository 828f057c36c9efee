"""Without a configuration, what holds for every rotation is checked."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from tests.audit.conftest import codes
from tests.audit.files import CONFIG, POSITIONS, Decoder, rule, stored

YARN = rule("yarn", factor=4.0, original_max_position_embeddings=32)


@pytest.mark.parametrize("decoder", [Decoder(), Decoder(tables=stored(CONFIG)), Decoder(tables=stored(YARN))])
def test_a_sound_file_passes_and_says_what_was_not_compared(decoder, audited):
    report = audited(decoder)
    assert report.verdict == "passed"
    assert any("give --against" in note for note in report.notes)


def placed(rows):
    return tuple(table[rows] for table in stored(CONFIG, POSITIONS + 8))


# A model may shift, wrap or clamp its positions: without a rule, that is for the reader to know.
CHOSEN = {
    "shifted": ("RD201", np.arange(POSITIONS) + 5),
    "wrapped": ("RD900", np.arange(POSITIONS) % 50),
    "clamped": ("RD900", np.minimum(np.arange(POSITIONS), 31)),
    "two at each": ("RD900", np.arange(POSITIONS) // 2),
}


@pytest.mark.parametrize("kind", CHOSEN)
def test_what_a_model_may_do_on_purpose_is_a_hazard_and_fails_where_that_is_asked(kind, audited):
    code, rows = CHOSEN[kind]
    decoder = Decoder(tables=placed(rows))
    report = audited(decoder)
    assert report.verdict == "passed" and any(note.startswith(code) for note in report.notes)
    assert code in codes(audited(decoder, fail_on=[code]))
    assert audited(decoder, CONFIG).verdict == "failed"


def test_a_value_that_is_no_number_is_a_mistake(audited):
    cos, sin = stored(CONFIG)
    sin[33, 2] = np.inf
    assert codes(audited(Decoder(tables=(cos, sin)))) & {"RD207", "RD601"}


def test_a_row_of_another_length_is_named(audited):
    cos, sin = stored(CONFIG)
    cos[70], sin[70] = cos[70] * 1.01, sin[70] * 1.01
    report = audited(Decoder(tables=(cos, sin)))
    assert "RD403" in codes(report) and "position 70" in report.diagnoses[0].explanation


def test_one_row_that_stands_elsewhere_than_between_its_neighbours_is_a_mistake(audited):
    rows = np.arange(POSITIONS)
    rows[50] = 90
    report = audited(Decoder(tables=placed(rows)))
    assert report.verdict == "failed" and "position 50" in report.diagnoses[0].explanation


def test_angles_in_half_precision_are_named_by_their_type(audited):
    assert codes(audited(Decoder(angle_type=TensorProto.BFLOAT16))) == {"RD501"}
