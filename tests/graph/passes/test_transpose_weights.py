"""Weights: stored as they are read, each once."""

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.artifact import hash_file
from rope_deploy.graph.passes.transpose_weights import TransposeWeightsPass
from rope_deploy.graph.save import save
from tests.graph.graphs import run

SIZE = 40  # a 40 × 40 fp32 weight is above the size that stays in the graph file


def model(*, tied: bool) -> ir.Model:
    values = ", ".join(f"{i / SIZE**2}" for i in range(SIZE**2))
    table = "Gather <axis = 0> (weight, ids)" if tied else "Gather <axis = 0> (other, ids)"
    return ir.from_onnx_text(f"""
<ir_version: 10, opset_import: ["" : 18]>
g (int64[n] ids) => (float[n, {SIZE}] y)
<float[{SIZE}, {SIZE}] weight = {{{values}}}, float[{SIZE}, {SIZE}] other = {{{values}}}>
{{ hidden = {table}
   turned = Transpose <perm = [1, 0]> (weight)
   y = MatMul(hidden, turned) }}""")


IDS = {"ids": np.array([3, 0, 39])}


def test_a_weight_that_is_only_read_transposed_is_stored_so():
    graph = model(tied=False)
    before = run(model(tied=False), IDS)["y"]
    assert TransposeWeightsPass()(graph).modified
    assert "Transpose" not in [node.op_type for node in graph.graph]
    np.testing.assert_array_equal(run(graph, IDS)["y"], before)
    original = model(tied=False).graph.initializers["weight"].const_value.numpy()
    np.testing.assert_array_equal(graph.graph.initializers["weight"].const_value.numpy(), original.T)
    assert not np.array_equal(original, original.T)


def test_a_tied_weight_keeps_its_transpose_and_is_stored_once(tmp_path):
    graph = model(tied=True)
    assert not TransposeWeightsPass()(graph).modified
    common.RemoveUnusedNodesPass()(graph)
    (info,) = save(graph, tmp_path / "m.onnx").weights.values()
    assert info.bytes < 1.5 * SIZE**2 * 4
    assert (tmp_path / "m.onnx").stat().st_size < 2000


def test_two_weights_take_twice_the_space_of_one(tmp_path):
    (info,) = save(model(tied=False), tmp_path / "m.onnx").weights.values()
    assert info.bytes >= 2 * SIZE**2 * 4


def test_the_summary_says_what_a_reader_wants_to_know(tmp_path):
    summary = save(model(tied=True), tmp_path / "m.onnx")
    assert summary.nodes == 3 and summary.runtime_cos_sin == 0
    assert summary.inputs == (("ids", "int64", ("n",)),)
    assert summary.outputs == (("y", "float32", ("n", SIZE)),)


def test_the_name_of_the_weights_says_what_is_in_them_and_the_graph_names_it(tmp_path):
    graph = model(tied=False)
    ((name, info),) = save(graph, tmp_path / "m.onnx").weights.items()
    assert name == f"m.onnx.{info.sha256[:12]}.data"
    assert hash_file(tmp_path / name) == info
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", name]
    written = ir.external_data.load_to_model(ir.load(tmp_path / "m.onnx"))
    np.testing.assert_array_equal(run(written, IDS)["y"], run(model(tied=False), IDS)["y"])
    weight = graph.graph.initializers["weight"]
    assert not isinstance(weight.const_value, ir.ExternalTensor), "what was saved stays as it was"
    assert save(graph, tmp_path / "again.onnx").weights == {name.replace("m.onnx", "again.onnx"): info}


def test_other_weights_have_another_name(tmp_path):
    """The twin."""
    graph = model(tied=False)
    first = save(graph, tmp_path / "m.onnx").weights
    changed = graph.graph.initializers["weight"].const_value.numpy().copy()
    changed[0, 0] += 1
    graph.graph.initializers["weight"].const_value = ir.tensor(changed, name="weight")
    assert first.keys().isdisjoint(save(graph, tmp_path / "m.onnx").weights)


def test_a_graph_without_large_weights_has_no_file_beside_it(tmp_path):
    graph = ir.from_onnx_text("""
<ir_version: 10, opset_import: ["" : 18]>
g (float[2] x) => (float[2] y) <float[2] one = {1, 2}> { y = Add(x, one) }""")
    assert save(graph, tmp_path / "m.onnx").weights == {}
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
