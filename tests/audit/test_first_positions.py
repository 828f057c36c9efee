"""Files that are given the position of the first token, in any shape, are read like all others."""

from __future__ import annotations

import numpy as np
import pytest

from tests.audit.conftest import codes
from tests.audit.files import CONFIG, Decoder, Writer, config, stored

OTHER = config(rope_parameters={"rope_type": "default", "rope_theta": 20_000.0})


def count(to: Writer) -> str:
    """0, 1, 2 … for the tokens of the call: [S]."""
    length = to.op("Gather", to.op("Shape", "inputs_embeds"), to.constant(1))
    return to.op("Range", to.constant(0), length, to.constant(1))


def counted_from(to: Writer, first: str) -> str:
    """[1, S] or [B, S] from a first position that broadcasts to it."""
    at = to.op("Add", first, count(to))
    return to.op("Expand", at, _whole(to))


def _whole(to: Writer) -> str:
    return to.op("Slice", to.op("Shape", "inputs_embeds"), to.constant([0]), to.constant([2]))


def per_row(to: Writer, first: str) -> str:
    return counted_from(to, to.op("Unsqueeze", first, to.constant([1])))


def shared(to: Writer, positions: str) -> str:
    return to.op("Expand", to.op("Unsqueeze", positions, to.constant([0])), _whole(to))


def flat(to: Writer, first: str) -> str:
    return to.op("Reshape", first, to.constant([1]))


# shape of position_ids, what is made of it, form of the rotation
FORMS = {
    "contrib, one for all": ([1], None, "contrib"),
    "contrib, one that is reshaped": ([1, 1], flat, "contrib"),
    "contrib, a number": ([], flat, "contrib"),
    "contrib, one with a count": ([1], counted_from, "contrib"),
    "standard, one with a count": ([1, 1], counted_from, "standard"),
    "sums, one with a count": ([1], counted_from, "chain"),
    "sums, one in a row of one": ([1, 1], counted_from, "chain"),
    "sums, one a row": (["b", 1], counted_from, "chain"),
    "sums, a list of one a row": (["b"], per_row, "chain"),
    "sums, a number": ([], counted_from, "chain"),
    "sums, shared by the rows": (["s"], shared, "chain"),
    "sums, in a batch of one": ([1, "s"], None, "chain"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tables", [stored(CONFIG), None], ids=["stored", "computed"])
def test_a_first_position_is_read_and_a_fault_behind_it_is_named(form, tables, audited):
    position_shape, rows, kind = FORMS[form]
    if tables is None and kind == "contrib":
        pytest.skip("the operator takes a table")
    decoder = Decoder(form=kind, tables=tables, position_shape=position_shape, rows=rows)
    report = audited(decoder, CONFIG)
    assert report.verdict == "passed", report.diagnoses
    assert any(note.startswith("model.onnx: 4 sites") for note in report.notes)
    assert codes(audited(decoder, OTHER)) == {"RD301"}


@pytest.mark.parametrize("position_shape", [[1], [1, 1]])
def test_a_table_read_from_the_second_row_is_off_by_one(position_shape, audited):
    moved = Decoder(
        form="contrib", tables=stored(CONFIG), position_shape=position_shape, rows=lambda to, p: flat(to, _next(to, p))
    )
    assert codes(audited(moved, CONFIG)) == {"RD201", "RD207"}


def _next(to: Writer, positions: str) -> str:
    return to.op("Add", positions, to.constant([1]))


def test_a_constant_first_position_counts_every_call_from_it(audited):
    def zero(to: Writer, positions: str) -> str:
        return to.constant(np.zeros(1, np.int64))

    whole = Decoder(form="contrib", tables=stored(CONFIG), positions="none", rows=zero)
    report = audited(whole, CONFIG)
    assert report.verdict == "passed" and any(note.startswith("RD604") for note in report.notes)
    cached = Decoder(form="contrib", tables=stored(CONFIG), positions="none", rows=zero, cached=True)
    assert "RD604" in codes(audited(cached, CONFIG))


def test_positions_that_are_given_and_not_read_are_named(audited):
    def zero(to: Writer, positions: str) -> str:
        return to.constant(np.zeros(1, np.int64))

    assert "RD203" in codes(audited(Decoder(form="contrib", tables=stored(CONFIG), rows=zero), CONFIG))
