import os
import struct
import time

import pytest

from rope_deploy.childprocess import ChildDied, ChildTimedOut, fork, run_in_fork

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def test_what_the_function_returns_comes_back():
    assert run_in_fork(lambda: {"sizes": [1, 2]}) == {"sizes": [1, 2]}


def test_a_crash_is_an_answer_and_not_the_end():
    with pytest.raises(ChildDied, match="crashes"):
        run_in_fork(os.abort)


def test_an_exception_is_no_answer():
    with pytest.raises(ChildDied):
        run_in_fork(lambda: 1 // 0)


def test_what_is_not_json_is_no_answer():
    with pytest.raises(ChildDied):
        run_in_fork(lambda: {1, 2})


@pytest.mark.parametrize(
    "sent",
    [b"\x80\x04N.", b"[" * (1 << 20), b"\xff\xfe{}", b"{"],
    ids=["a-pickle", "deep", "no-text", "cut"],
)
def test_damaged_bytes_are_no_answer(monkeypatch, sent):
    monkeypatch.setattr(fork, "write_all", lambda stream, part: stream.write(struct.pack("<Q", len(sent)) + sent))
    with pytest.raises(ChildDied):
        run_in_fork(lambda: 1)


def test_an_answer_of_any_size_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(fork, "write_all", lambda stream, part: stream.write(struct.pack("<Q", 1 << 60)))
    with pytest.raises(ChildDied, match="no answer"):
        run_in_fork(lambda: 1)


def test_what_hangs_is_ended_in_time():
    began = time.monotonic()
    with pytest.raises(ChildTimedOut, match="takes longer than"):
        run_in_fork(lambda: time.sleep(60), seconds=0.5)
    assert time.monotonic() - began < 10


def test_memory_is_limited():
    with pytest.raises(ChildDied):
        run_in_fork(lambda: len(bytearray(8 << 30)))
