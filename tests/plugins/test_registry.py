"""One library in the plugin registries of TensorRT 11 and TensorRT 10, each in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from rope_deploy.graph.rotating_operators import ROTATE, ROTATE_QK
from rope_deploy.trt.plugin import read_library
from tests.plugins.driving import Built
from tests.plugins.test_creator import BAD, GOOD

ROOT = Path(__file__).parent.parent.parent
# Two releases of one module: the older one has a folder of its own, see the Makefile.
OLDER = Path(sys.prefix) / "tensorrt10"
ASKED = [(operator, attributes) for operator in (ROTATE, ROTATE_QK) for attributes in GOOD]
REFUSED = [
    (operator, attributes) for operator in (ROTATE, ROTATE_QK) for attributes, words in BAD if "nan" not in words
]


def run(path: Path | None, library: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, filter(None, (path, ROOT))))}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.plugins.in_registry", str(library)],
        input=json.dumps(ASKED + REFUSED),
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )


@cache
def in_registry(path: Path | None, library: Path) -> tuple[dict, str]:
    ran = run(path, library)
    assert ran.returncode == 0, (ran.returncode, ran.stderr[-2000:])
    return json.loads(ran.stdout), ran.stderr


@pytest.fixture(params=["11", "10"])
def registry(request: pytest.FixtureRequest, built: Built) -> tuple[dict, str]:
    if request.param == "10" and not OLDER.is_dir():
        pytest.skip("needs TensorRT 10's lean runtime in the environment (`make environment`)")
    if request.param == "11" and importlib.util.find_spec("tensorrt_lean_bindings") is None:
        pytest.skip("needs tensorrt-lean")
    found, stderr = in_registry(OLDER if request.param == "10" else None, built.library)
    assert found["version"].startswith(f"{request.param}.")
    return found, stderr


def test_loading_adds_both_creators_and_unloading_removes_them(registry) -> None:
    found, _ = registry
    assert found["new"] == [ROTATE, ROTATE_QK] and found["left"] == []


def test_the_creators_declare_what_the_library_says(registry, built: Built) -> None:
    found, _ = registry
    described = {a.name: [a.type, a.length] for a in read_library(built.library).attributes}
    for kind, version, fields in found["creators"].values():
        assert (kind, version, fields) == ("PLUGIN CREATOR_V3ONE", "1", described)


def test_every_meaningful_set_of_attributes_makes_a_plugin(registry) -> None:
    found, _ = registry
    interfaces = [["PLUGIN", 1], ["PLUGIN_V3ONE_CORE", 1], ["PLUGIN_V3ONE_BUILD", 1], ["PLUGIN_V3ONE_RUNTIME", 1]]
    for (operator, attributes), plugin in zip(ASKED, found["plugins"]):
        assert plugin is not None, attributes
        assert plugin[:3] == [operator, "1", 2 if operator == ROTATE_QK else 1]
        assert plugin[3].split()[0] == str(attributes["head_dim"]) and plugin[4] == interfaces


def test_every_meaningless_one_is_refused_and_said(registry) -> None:
    found, stderr = registry
    assert found["plugins"][len(ASKED) :] == [None] * len(REFUSED)
    # Without a GPU no runtime can be made, so TensorRT has no logger: standard error is the place left.
    assert stderr.count("cannot be created: ") == len(REFUSED)


def test_a_library_that_cannot_be_loaded_is_a_failed_test(built: Built, tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(built.library.read_bytes()[:2000])
    assert run(None, broken).returncode != 0
