"""What every test may rely on: no network, and a stated reason for every test that cannot run here."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache

import pytest

from rope_deploy.childprocess import staying_here

# Before any test imports transformers, which reads it once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# As on the command line: threads that spin slow each other down on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def work_stays_here(request: pytest.FixtureRequest) -> Iterator[None]:
    """A child imports PyTorch anew, for seconds: tests do its work themselves, but those of children and crashes."""
    with nullcontext() if request.node.get_closest_marker("children") else staying_here():
        yield


@cache
def gpu_present() -> bool:
    """Ask the driver itself; importing torch for this would cost every run a second."""
    try:
        return ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
    except OSError:
        return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not gpu_present():
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
        if item.get_closest_marker("tensorrt") and importlib.util.find_spec("tensorrt") is None:
            item.add_marker(pytest.mark.skip(reason="needs the tensorrt package"))
