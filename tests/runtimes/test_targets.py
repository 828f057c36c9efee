"""Every runtime that has a name can be opened by it, and the doctor knows what it needs."""

from importlib import import_module

import numpy as np
import pytest

from rope_deploy.doctor import PROBES
from rope_deploy.errors import EnvironmentMissing
from rope_deploy.runtime_registry import RUNTIMES
from rope_deploy.runtimes import Target, open_in_child, open_runtime
from tests.folders import ROOT, comparisons_with
from tests.runtimes.test_isolated import feeds
from tests.runtimes.toy import write_toy

pytestmark = pytest.mark.children


@pytest.mark.parametrize("kind", RUNTIMES.values(), ids=lambda kind: kind.name)
def test_each_has_a_function_that_opens_it_and_a_probe_for_each_package(kind):
    assert callable(import_module(kind.module).open_target)
    assert set(kind.packages) <= {probe.name for probe in PROBES}


def test_no_module_decides_by_the_name_of_a_runtime():
    found = {path: comparisons_with(RUNTIMES, path.read_text()) for path in (ROOT / "rope_deploy").rglob("*.py")}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_the_guard_sees_a_comparison():
    for text in ('runtime == "ort"', '"trt" in names', 'one.name != "torch"'):
        assert comparisons_with(RUNTIMES, f"\nfound = {text}") == [2], text
    assert comparisons_with(RUNTIMES, 'found = style == "onnx"') == []


def test_a_target_gives_the_same_runtime_here_and_in_a_child(tmp_path):
    write_toy(tmp_path / "toy")
    target = Target(tmp_path / "toy", threads=1)
    with open_runtime("ort", target) as near, open_in_child("ort", target) as far:
        np.testing.assert_array_equal(near.run(feeds())["logits"], far.run(feeds())["logits"])


def test_an_engine_that_was_not_built_is_missing(tmp_path):
    with pytest.raises(EnvironmentMissing, match="no engine to time"):
        open_runtime("trt", Target(tmp_path))
