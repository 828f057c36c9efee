"""The libraries under test: in the folder ROPE_PLUGIN_BUILD, or built here, once, for one architecture.

cmake -S plugins -B FOLDER -DROPE_BUILD_TESTS=ON && cmake --build FOLDER
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from pathlib import Path

import pytest

from tests.plugins.driving import Built, Driver

ROOT = Path(__file__).parent.parent.parent
# Kept between runs, and compiled again only where sources changed.
FOLDER = ROOT / "build" / "plugin-tests"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Compilers take a minute for the library, and seconds for the kernel."""
    for item in items:
        if {"built", "kernel"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def built() -> Built:
    if given := os.environ.get("ROPE_PLUGIN_BUILD"):
        return Built(Path(given))
    from rope_deploy.errors import EnvironmentMissing
    from rope_deploy.trt import gpus
    from rope_deploy.trt.plugin import find_tools

    try:
        tools = find_tools()
    except EnvironmentMissing as missing:
        pytest.skip(missing.asked.replace("\n", " "))
    capability = gpus()[0].capability if gpus() else "8.0"
    configure = [
        *(tools.cmake.path, "-S", str(ROOT / "plugins"), "-B", str(FOLDER)),
        f"-DCMAKE_CUDA_COMPILER={tools.nvcc.path}",
        f"-DTensorRT_INCLUDE_DIR={tools.headers.path}",
        f"-DCMAKE_CUDA_ARCHITECTURES={capability.replace('.', '')}-real",
        "-DROPE_BUILD_TESTS=ON",
        "-DCMAKE_CXX_FLAGS=-Werror",
    ]
    with _alone(FOLDER.with_suffix(".lock")):
        for command in (configure, [tools.cmake.path, "--build", str(FOLDER), "--parallel", "2"]):
            ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert ran.returncode == 0, ran.stdout[-4000:]
    return Built(FOLDER)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Tests may run in several processes: who comes second waits, and finds nothing left to compile."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


class _Manager(BaseManager):
    pass


def _end_with_parent() -> None:
    """If pytest itself crashes there is nobody to end this process, and it would hold the output open for ever."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


_Manager.register("Driver", Driver)


@pytest.fixture(scope="session")
def driver(built: Built) -> Iterator[Driver]:
    """The driver in a process of its own: a plugin that crashes fails a test and no more."""
    manager = _Manager()
    manager.start(_end_with_parent)
    with manager:
        yield manager.Driver(str(built.driver), str(built.library))
