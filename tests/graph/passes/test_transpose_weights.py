"""Weights are stored as matrix products read them, each once."""

import numpy as np
from onnx_ir.passes import common

from rope_deploy.graph.passes.transpose_weights import TransposeWeightsPass
from rope_deploy.graph.save import save
from tests.graph.graphs import run
from tests.graph.weighted import IDS, SIZE, model


def test_a_weight_that_is_only_read_transposed_is_stored_so():
    graph = model(tied=False)
    before = run(model(tied=False), IDS)["y"]
    assert TransposeWeightsPass()(graph).modified
    assert [node.op_type for node in graph.graph] == ["Gather", "MatMul"]
    np.testing.assert_array_equal(run(graph, IDS)["y"], before)
    original = model(tied=False).graph.initializers["weight"].const_value.numpy()
    np.testing.assert_array_equal(graph.graph.initializers["weight"].const_value.numpy(), original.T)
    assert not np.array_equal(original, original.T)


def test_a_tied_weight_keeps_its_transpose_and_is_stored_once(tmp_path):
    graph = model(tied=True)
    assert not TransposeWeightsPass()(graph).modified
    assert [node.op_type for node in graph.graph] == ["Gather", "Transpose", "MatMul"]
    common.RemoveUnusedNodesPass()(graph)
    (info,) = save(graph, tmp_path / "m.onnx").weights.values()
    assert info.bytes < 1.5 * SIZE**2 * 4
    assert (tmp_path / "m.onnx").stat().st_size < 2000
