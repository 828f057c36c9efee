"""Numbers as people read them; text that cannot do harm."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rope_deploy.report import words
from rope_deploy.report.records import Worst


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (words.error(3.1e-06), "3.1e-6"),
        (words.error(1e-4), "1e-4"),
        (words.error(9.96e-5), "1e-4"),
        (words.error(12.0), "1.2e1"),
        (words.error(0.0), "0"),
        (words.error(math.nan), "nan"),
        (words.error(math.inf), "infinite"),
        (words.size(0), "0 bytes"),
        (words.size(999), "999 bytes"),
        (words.size(1000), "1 kB"),
        (words.size(999_600), "1 MB"),
        (words.size(540_300_000), "540 MB"),
        (words.size(7.5e15), "7500 TB"),
        (words.duration(0.123), "0.12 s"),
        (words.duration(9.94), "9.9 s"),
        (words.duration(9.96), "10 s"),
        (words.duration(59.7), "1 min 0 s"),
        (words.duration(3725), "1 h 2 min"),
        (words.duration(math.nan), "?"),
        (words.milliseconds(0.512), "0.51 ms"),
        (words.milliseconds(34), "34.0 ms"),
        (words.milliseconds(231.4), "231 ms"),
        (words.milliseconds(1500), "1.50 s"),
        (words.ratio(None), ""),
        (words.ratio(1.046), "1.05×"),
        (words.count(1, "check"), "1 check"),
        (words.count(0, "check"), "0 checks"),
        (words.target("tables", "ort"), "tables · ONNX Runtime"),
        (words.target("", "torch"), "PyTorch"),
        (words.moment("2026-11-22T10:15:00+00:00"), "2026-11-22 10:15 UTC"),
        (words.moment("some day"), "some day"),
        (words.percent(0.031), "3 % of the limit"),
        (words.beside(1.04e-4, 1e-4), "1.04e-4"),
        (words.beside(1.000_04e-4, 1e-4), "1.00004e-4"),
        (words.beside(1e-4, 1e-4), "1e-4"),
        (words.beside(2e-4, 1e-4), "2e-4"),
        (words.percent(1.004), "just over the limit"),
        (words.percent(1.0), "100 % of the limit"),
        (words.percent(1.2), "120 % of the limit"),
        (words.percent(7.78), "7.8 times the limit"),
        (words.percent(0.001), "< 1 % of the limit"),
        (words.percent(420), "420 times the limit"),
        (words.percent(5_051_992), "5\u202f100\u202f000 times the limit"),
        (words.percent(math.inf), "over the limit"),
        (words.share(Worst("logits", 0.0, 0.0)), 0.0),
        (words.share(Worst("logits", math.nan, 1.0)), math.inf),
        (words.place(Worst("rotated.3.k", 1, 1, 3, "k", 1, 17)), "rotated k, layer 3, position 17, batch row 1"),
        (words.place(Worst("present.3.value", 1, 1, 3, "value", 0, 4)), "present.3.value, position 4, batch row 0"),
        (words.place(Worst("logits", 1, 1, position=0)), "logits, position 0"),
    ],
)
def test_a_value_reads_as_expected(found, wanted):
    assert found == wanted


def test_escapes_and_reordering_marks_become_visible_and_emoji_stay():
    assert words.clean("\x1b[31mred\u202e\ud800") == "\\x1b[31mred\\u202e\\ud800"
    assert words.clean("👩‍🚀 é 世界\tx\n") == "👩‍🚀 é 世界\tx\n"


@given(st.text() | st.characters())
def test_a_line_is_one_printable_line(text):
    found = words.line(text)
    assert "\n" not in found and "\x1b" not in found
    found.encode("utf-8")
    assert words.line(found) == found


@given(st.floats())
def test_no_number_breaks_the_words(value):
    for word in (words.error, words.milliseconds, words.duration):
        assert word(value)
