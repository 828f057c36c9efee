"""How far two answers are apart, in the words of the refusal."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from rope_deploy.errors import CheckFailed
from rope_deploy.runs import rewrite_trial
from rope_deploy.runs.rewrite_trial import run_both
from tests.graph.graphs import rotation_graph, with_tokens


def saved(path, **settings):
    ir.save(with_tokens(rotation_graph("rotate_half", **settings)), path)
    return path


def test_the_same_file_answers_alike(tmp_path):
    one = saved(tmp_path / "one.onnx")
    assert run_both(one, one, 16) == (
        "Run beside the original in ONNX Runtime: 2 calls, every output within 0.0e+00 of its largest number."
    )


def test_another_rotation_is_off_and_the_output_is_named(tmp_path):
    one = saved(tmp_path / "one.onnx")
    model = with_tokens(rotation_graph("stack_and_flatten"))
    ir.save(model, tmp_path / "other.onnx")
    with pytest.raises(CheckFailed, match="output y is off by") as caught:
        run_both(one, tmp_path / "other.onnx", 16)
    assert "rounding explains" in caught.value.exists
    assert "--no-run" in caught.value.todo


def test_a_file_of_another_shape_is_named(tmp_path):
    one = saved(tmp_path / "one.onnx")
    model = with_tokens(rotation_graph("rotate_half"))
    (y,) = model.graph.outputs
    node = ir.node("Transpose", [y], {"perm": [0, 1, 3, 2]}, outputs=[ir.val("z", dtype=y.dtype)])
    model.graph.append(node)
    y.name, node.outputs[0].name = "before", "y"
    model.graph.outputs[0] = node.outputs[0]
    ir.save(model, tmp_path / "other.onnx")
    with pytest.raises(CheckFailed, match=r"output y is float32 \[2, 2, 8, 3\] instead of float32 \[2, 2, 3, 8\]"):
        run_both(one, tmp_path / "other.onnx", 16)


def test_a_runtime_that_does_not_end_is_ended(tmp_path, monkeypatch):
    one = saved(tmp_path / "one.onnx")
    monkeypatch.setattr(rewrite_trial, "OPENER", "tests.runtimes.deadly:open_sleeping")
    monkeypatch.setattr(rewrite_trial, "SECONDS", 1)
    assert run_both(one, one, 16).startswith("Not run: the original cannot be run here: The runtime one.onnx ended by")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rounding_passes_and_a_fault_does_not(dtype):
    want = np.linspace(-3, 3, 50).astype(dtype)
    tolerance = rewrite_trial._tolerance(dtype)
    near = (want.astype(np.float64) * (1 + np.finfo(dtype).eps)).astype(dtype)
    assert rewrite_trial._difference(want, near) <= tolerance
    assert rewrite_trial._difference(want, want[::-1]) > 1
    assert rewrite_trial._difference(want, np.where(want > 2, np.nan, want).astype(dtype)) == np.inf
    assert rewrite_trial._difference(np.array([np.nan, 1.0]), np.array([np.nan, 1.0])) == 0
    assert rewrite_trial._difference(np.array([3]), np.array([4])) == np.inf
