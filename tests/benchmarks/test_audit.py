"""The benchmark of audits stops at a wrong file, and its hollow files read like full ones."""

from __future__ import annotations

import json

import click
import numpy as np
import onnx_ir as ir
import pytest

from benchmarks import audit
from tests.audit.files import CONFIG, Decoder, config, stored, write


@pytest.mark.slow
def test_a_right_file_is_measured_and_a_wrong_one_is_not(tmp_path):
    file = write(tmp_path / "model.onnx", Decoder(tables=stored(CONFIG)), CONFIG)
    measured = audit.measure(file)
    assert measured["cpu_s"] > 0 and 0 < measured["seconds"] < 120 and measured["peak_mb"] > 30
    assert audit.json.loads(measured["report"])["verdict"] == "passed"
    wrong = config(rope_parameters={"rope_type": "default", "rope_theta": 77_000.0})
    (tmp_path / "config.json").write_text(json.dumps(wrong))
    with pytest.raises(click.ClickException, match="exit code 1"):
        audit.measure(file)


def test_large_tensors_are_holes_and_small_ones_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "SPARSE_FROM", 1 << 20)
    values = {"large": np.ones((1024, 1024), np.float32), "small": np.full((64, 64), 3.0, np.float32)}
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 18}, name="g")
    for name, array in values.items():
        tensor = ir.tensor(array, name=name)
        graph.register_initializer(ir.Value(name=name, const_value=tensor, shape=tensor.shape))
    audit.save_sparse(ir.Model(graph, ir_version=10), tmp_path / "hollow", CONFIG)
    data = tmp_path / "hollow" / "model.onnx.data"
    assert data.stat().st_size >= 4 << 20
    assert data.stat().st_blocks * 512 < 1 << 20
    read = {name: value.const_value.numpy() for name, value in ir.load(data.with_suffix("")).graph.initializers.items()}
    assert (read["small"] == 3.0).all() and not read["large"].any()
