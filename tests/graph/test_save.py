"""A saved graph has its weights beside it, each once, in a file named by its content."""

import numpy as np
import onnx_ir as ir

from rope_deploy.artifact import hash_file
from rope_deploy.graph.save import save
from tests.graph.graphs import run
from tests.graph.weighted import IDS, SIZE, model


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
