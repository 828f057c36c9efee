"""What a library said stands under a sentence of ours: one line, no escapes, bounded."""

from __future__ import annotations

import pytest

from rope_deploy.errors import LONGEST_QUOTE, quoted


@pytest.mark.parametrize(
    ("said", "quote"),
    [
        (ValueError("no\nsuch\tfile"), "It says: ValueError: no such file"),
        (ValueError(), "It says: ValueError"),
        ("", "It says: nothing"),
        ("\x1b[1;31mred\x1b[0m and \x1b]0;title\x07plain", "It says: red and plain"),
        ("\x1b]8;;http://x\x1b\\link", "It says: link"),
        ("turned \u202eround\x9b31m\x7f", "It says: turned round 31m"),
    ],
)
def test_on_one_line_and_without_escapes(said, quote):
    assert quoted("It", said) == quote


def test_what_is_long_is_cut():
    assert len(quoted("It", "x" * 10_000)) < LONGEST_QUOTE + 20
