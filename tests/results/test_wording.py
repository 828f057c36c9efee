"""Numbers as people read them; text that cannot do harm."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rope_deploy.results import wording
from rope_deploy.results.records import Worst


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (wording.error(3.1e-06), "3.1e-6"),
        (wording.error(1e-4), "1e-4"),
        (wording.error(9.96e-5), "1e-4"),
        (wording.error(12.0), "1.2e1"),
        (wording.error(0.0), "0"),
        (wording.error(math.nan), "nan"),
        (wording.error(math.inf), "infinite"),
        (wording.size(0), "0 bytes"),
        (wording.size(999), "999 bytes"),
        (wording.size(1000), "1 kB"),
        (wording.size(999_600), "1 MB"),
        (wording.size(540_300_000), "540 MB"),
        (wording.size(7.5e15), "7500 TB"),
        (wording.duration(0.123), "0.12 s"),
        (wording.duration(9.94), "9.9 s"),
        (wording.duration(9.96), "10 s"),
        (wording.duration(59.7), "1 min 0 s"),
        (wording.duration(3725), "1 h 2 min"),
        (wording.duration(math.nan), "?"),
        (wording.milliseconds(0.512), "0.51 ms"),
        (wording.milliseconds(34), "34.0 ms"),
        (wording.milliseconds(231.4), "231 ms"),
        (wording.milliseconds(1500), "1.50 s"),
        (wording.ratio(None), ""),
        (wording.ratio(1.046), "1.05×"),
        (wording.count(1, "check"), "1 check"),
        (wording.count(0, "check"), "0 checks"),
        (wording.target("tables", "ort"), "tables · ONNX Runtime"),
        (wording.target("", "torch"), "PyTorch"),
        (wording.moment("2026-11-22T10:15:00+00:00"), "2026-11-22 10:15 UTC"),
        (wording.moment("some day"), "some day"),
        (wording.percent(0.031), "3 % of the tolerance"),
        (wording.beside(1.04e-4, 1e-4), "1.04e-4"),
        (wording.beside(1.000_04e-4, 1e-4), "1.00004e-4"),
        (wording.beside(1e-4, 1e-4), "1e-4"),
        (wording.beside(2e-4, 1e-4), "2e-4"),
        (wording.percent(1.004), "just over the tolerance"),
        (wording.percent(1.0), "100 % of the tolerance"),
        (wording.percent(1.2), "120 % of the tolerance"),
        (wording.percent(7.78), "7.8 times the tolerance"),
        (wording.percent(0.001), "< 1 % of the tolerance"),
        (wording.percent(420), "420 times the tolerance"),
        (wording.percent(5_051_992), "5\u202f100\u202f000 times the tolerance"),
        (wording.percent(math.inf), "over the tolerance"),
        (wording.share(Worst("logits", 0.0, 0.0)), 0.0),
        (wording.share(Worst("logits", math.nan, 1.0)), math.inf),
        (wording.location(Worst("rotated.3.k", 1, 1, 3, "k", 1, 17)), "rotated k, layer 3, position 17, batch row 1"),
        (
            wording.location(Worst("present.3.value", 1, 1, 3, "value", 0, 4)),
            "present.3.value, position 4, batch row 0",
        ),
        (wording.location(Worst("logits", 1, 1, position=0)), "logits, position 0"),
    ],
)
def test_a_value_reads_as_expected(found, wanted):
    assert found == wanted


def test_escapes_and_reordering_marks_become_visible_and_emoji_stay():
    assert wording.clean("\x1b[31mred\u202e\ud800") == "\\x1b[31mred\\u202e\\ud800"
    assert wording.clean("👩‍🚀 é 世界\tx\n") == "👩‍🚀 é 世界\tx\n"


@given(st.text() | st.characters())
def test_a_line_is_one_printable_line(text):
    found = wording.line(text)
    assert "\n" not in found and "\x1b" not in found
    found.encode("utf-8")
    assert wording.line(found) == found


@given(st.floats())
def test_no_number_breaks_the_words(value):
    for word in (wording.error, wording.milliseconds, wording.duration):
        assert word(value)
