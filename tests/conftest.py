"""What every test may rely on: no network, and a stated reason for every test that cannot run here."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from rope_deploy.childprocess import staying_here

# Before any test imports transformers, which reads it once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# As on the command line: threads that spin slow each other down on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def work_stays_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A child imports its libraries anew: tests do its work themselves, but those of children and crashes."""
    if request.node.get_closest_marker("children"):
        yield
        return
    if isolated := sys.modules.get("rope_deploy.runtimes.isolated"):
        from tests.local_object import opened

        monkeypatch.setattr(isolated, "RemoteObject", opened)
    with staying_here():
        yield


@pytest.fixture
def code_cache(tmp_path, monkeypatch) -> Iterator[None]:
    """Code that comes with a model is copied to a place of this test's own, and forgotten before it and after it."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
            del sys.modules[name]

    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    forget()
    yield
    forget()


@cache
def gpu_present() -> bool:
    """Ask the driver itself; importing torch for this would cost every run a second."""
    try:
        return ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
    except OSError:
        return False


# Tests of one group run in one process, one after the other, and those of one file are a group. Some files share what
# they make: traces of the same families, the census of transformers.
GROUPS = {
    "tests/families/": "families",
    "tests/export/test_audit_tables.py": "families",
    "tests/export/test_write_artifact.py": "families",
    "tests/conformance/": "census",
    "tests/rope/test_family_facts.py": "census",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """By file as `--dist loadfile`, and by group. (`--dist loadgroup` of xdist 3.8 sees no groups under pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((group for start, group in GROUPS.items() if file.startswith(start)), file)

    return ByGroup(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--share", default="1/1", metavar="K/N", help="Run the Kth of N shares of the tests that are chosen."
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    share, shares = map(int, config.getoption("--share").split("/"))
    left_out = [item for item in items if zlib.crc32(item.nodeid.encode()) % shares != share - 1]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    for item in items:
        if item.get_closest_marker("gpu") and not gpu_present():
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
        if item.get_closest_marker("tensorrt") and importlib.util.find_spec("tensorrt") is None:
            item.add_marker(pytest.mark.skip(reason="needs the tensorrt package"))


def pytest_collection_finish() -> None:
    """Tests that trace have imported PyTorch by now."""
    if "torch" in sys.modules:
        from tests.quick_traces import quicken

        quicken()
