"""Any file runs without a manifest, and ONNX Runtime's refusals keep its words."""

import numpy as np
import onnx_ir as ir
import pytest

from rope_deploy.errors import RuntimeCrashed, VendorError
from rope_deploy.runtimes import open_isolated
from rope_deploy.runtimes.ort_any_file import AnyFileRuntime
from tests.graph.graphs import POSITIONS, activation, rotation_graph

OPENER = "rope_deploy.runtimes.ort_any_file:open_any_file"


@pytest.fixture
def path(tmp_path):
    ir.save(rotation_graph("rotate_half"), tmp_path / "in.onnx")
    return tmp_path / "in.onnx"


def test_it_answers_with_every_output(path):
    feeds = activation(rotation_graph("rotate_half"), POSITIONS)
    with open_isolated("in", OPENER, {"path": str(path), "seconds": 60}) as runtime:
        assert runtime.run(feeds)["y"].shape == feeds["x"].shape
        with pytest.raises(VendorError, match="position_ids"):
            runtime.run({"x": feeds["x"]})
        assert np.isfinite(runtime.run(feeds)["y"]).all(), "a refused call does not end it"
    assert AnyFileRuntime.taps is False


def test_what_does_not_load_is_refused_in_its_words(tmp_path):
    (tmp_path / "in.onnx").write_bytes(b"no graph")
    with pytest.raises(VendorError, match=r"in\.onnx"):
        open_isolated("in", OPENER, {"path": str(tmp_path / "in.onnx"), "seconds": 60})


def test_time_is_limited(tmp_path):
    with pytest.raises(RuntimeCrashed, match="SIGALRM"):
        open_isolated("slow", "tests.runtimes.deadly:open_sleeping", {"path": str(tmp_path), "seconds": 1})
