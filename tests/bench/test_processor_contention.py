"""What a process computed, and how long it was kept from computing."""

import os
import time
from multiprocessing import get_context

import pytest

from rope_deploy.bench.processor_contention import TimeSpent


def compute(seconds: float = 0.3) -> None:
    """So much processor time, however long that takes."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def _for_ever() -> None:
    while True:
        pass


@pytest.fixture
def hog():
    """A process on the processor that this one is tied to."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    process = get_context("fork").Process(target=_for_ever, daemon=True)
    process.start()
    yield
    process.kill()
    process.join()
    os.sched_setaffinity(0, before)


def test_sleeping_takes_wall_time_alone():
    spent = TimeSpent()
    with spent.timed():
        time.sleep(0.2)
    assert spent.wall[0] >= 0.2
    assert spent.processor[0] < 0.1


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="this kernel does not count waiting")
def test_who_shares_a_processor_waits_for_it(hog):
    spent = TimeSpent()
    with spent.timed():
        compute()
    assert spent.waiting > 0.2  # half, where there is nobody else
    assert 0.3 <= spent.processor[0] < 0.4 < spent.wall[0]


def test_where_nothing_is_counted_nothing_is_said():
    assert TimeSpent(wall=[1.0], processor=[1.0]).waiting is None
    assert TimeSpent(wall=[1.0], processor=[3.0], waited=1.0, stolen=0.0).waiting == 0.25
