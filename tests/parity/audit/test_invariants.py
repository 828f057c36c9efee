"""Without a configuration, what holds for every rotation is checked."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from tests.parity.audit.conftest import codes
from tests.parity.audit.files import CONFIG, POSITIONS, Decoder, rule, stored

YARN = rule("yarn", factor=4.0, original_max_position_embeddings=32)


@pytest.mark.parametrize("decoder", [Decoder(), Decoder(tables=stored(CONFIG)), Decoder(tables=stored(YARN))])
def test_a_sound_file_passes_and_says_what_was_not_compared(decoder, audited):
    report = audited(decoder)
    assert report.verdict == "passed"
    assert any("give --against" in note for note in report.notes)


def test_a_first_row_that_turns_is_named(audited):
    shifted = tuple(table[1:] for table in stored(CONFIG, POSITIONS + 1))
    assert codes(audited(Decoder(tables=shifted))) == {"RD201"}


def test_a_row_of_another_length_is_named(audited):
    cos, sin = stored(CONFIG)
    cos[70], sin[70] = cos[70] * 1.01, sin[70] * 1.01
    report = audited(Decoder(tables=(cos, sin)))
    assert "RD403" in codes(report) and "position 70" in report.diagnoses[0].explanation


def test_angles_that_do_not_grow_evenly_are_found(audited):
    cos, sin = stored(CONFIG)
    wrapped = tuple(table[np.arange(POSITIONS) % 50] for table in (cos, sin))
    report = audited(Decoder(tables=wrapped))
    assert report.verdict == "failed" and "position 50" in report.diagnoses[0].explanation


def test_angles_in_half_precision_are_named_by_their_type(audited):
    assert codes(audited(Decoder(angle_type=TensorProto.BFLOAT16))) == {"RD501"}
