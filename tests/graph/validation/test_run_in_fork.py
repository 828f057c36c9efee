import os
import time

import pytest

from rope_deploy.graph.validation.run_in_fork import ForkFailed, run_in_fork

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def test_what_the_function_returns_comes_back():
    assert run_in_fork(lambda: {"sizes": [1, 2]}) == {"sizes": [1, 2]}


def test_a_crash_is_an_answer_and_not_the_end():
    with pytest.raises(ForkFailed, match="crashes"):
        run_in_fork(os.abort)


def test_an_exception_is_no_answer():
    with pytest.raises(ForkFailed):
        run_in_fork(lambda: 1 // 0)


def test_what_hangs_is_ended_in_time():
    began = time.monotonic()
    with pytest.raises(ForkFailed, match="takes longer than"):
        run_in_fork(lambda: time.sleep(60), seconds=0.5)
    assert time.monotonic() - began < 10


def test_memory_is_limited():
    with pytest.raises(ForkFailed):
        run_in_fork(lambda: len(bytearray(8 << 30)))
