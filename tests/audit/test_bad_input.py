"""What cannot be audited is refused with a reason, and exit code 2."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rope_deploy import api
from rope_deploy.cli.main import main
from rope_deploy.errors import ConfigError, ModelError, UsageError
from tests.audit.files import CONFIG, Decoder, config, model, stored, write


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "model.onnx", Decoder(tables=stored(CONFIG)), CONFIG)


def refusal(capsys, *arguments) -> str:
    assert main(["check", "--audit", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_what_is_not_onnx_is_refused(tmp_path, capsys):
    (tmp_path / "model.onnx").write_text("weights")
    assert "is not an ONNX file" in refusal(capsys, tmp_path / "model.onnx")


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path, capsys):
    assert "There is no file" in refusal(capsys, tmp_path / "model.onnx")
    assert "has nothing to audit" in refusal(capsys, tmp_path)


def test_a_missing_configuration_is_refused(file, tmp_path, capsys):
    assert "There is no file" in refusal(capsys, file, "--against", tmp_path / "other.json")


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[1]", "holds no mapping")])
def test_a_configuration_that_is_no_mapping_is_refused(text, message, file, tmp_path, capsys):
    (tmp_path / "config.json").write_text(text)
    assert message in refusal(capsys, file)


def test_an_unknown_rope_type_is_refused(file, tmp_path, capsys):
    stated = config(rope_parameters={"rope_type": "spiral", "rope_theta": 1e4})
    (tmp_path / "config.json").write_text(json.dumps(stated))
    assert "'spiral' is not known" in refusal(capsys, file)


def test_a_configuration_without_rotation_is_refused(file):
    with pytest.raises(ModelError, match="no rotary position embedding"):
        api.audit(file, against=_written(file, {"model_type": "gpt2", "n_embd": 32, "n_head": 2}))


def test_a_faulty_configuration_is_refused_with_every_fault(file):
    stated = config(rope_parameters={"rope_type": "yarn", "rope_theta": -1, "factor": "big"})
    with pytest.raises(ConfigError) as caught:
        api.audit(file, against=_written(file, stated))
    assert len(caught.value.faults) >= 2


def _written(file, stated):
    path = file.parent / "stated.json"
    path.write_text(json.dumps(stated))
    return path


def test_a_file_that_rotates_nothing_is_refused(tmp_path, capsys):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "plain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 4])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    assert "has no rotary position embedding" in refusal(capsys, tmp_path / "m.onnx")


def test_options_of_an_audit_without_it_are_refused(tmp_path, capsys):
    assert main(["check", str(tmp_path), "--against", "config.json"]) == 2
    assert "belong to --audit" in capsys.readouterr().err


def test_an_unknown_code_is_refused(file, capsys):
    assert "There is no code RD999" in refusal(capsys, file, "--fail-on", "RD999")


def _outside(file, data, names):
    """Move the constants called so out of the graph, to `data` beside it."""
    loaded, start = onnx.load(file), 0
    with (file.parent / data).open("wb") as stream:
        for tensor in loaded.graph.initializer:
            if not names(tensor.name):
                continue
            raw = numpy_helper.to_array(tensor).tobytes()
            stream.write(raw)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", data), ("offset", start), ("length", len(raw))):
                tensor.external_data.add(key=key, value=str(value))
            start += len(raw)
    file.write_bytes(loaded.SerializeToString())


def test_missing_tables_are_refused_with_the_name_of_their_file(file, capsys):
    _outside(file, "tables.bin", lambda name: name.endswith("_cache"))
    assert api.audit(file).verdict == "passed"
    (file.parent / "tables.bin").unlink()
    assert "tables.bin, which is not beside it" in refusal(capsys, file)


def test_weights_are_not_read(tmp_path):
    """Large ones may be missing altogether."""
    decoder = model(Decoder(tables=stored(CONFIG)))
    big = numpy_helper.from_array(np.zeros((64, 64), np.float32), "big")
    decoder.graph.initializer.append(big)
    decoder.graph.node.append(helper.make_node("MatMul", ["big", "big"], ["product"], name="product"))
    decoder.graph.output.append(helper.make_tensor_value_info("product", TensorProto.FLOAT, [64, 64]))
    onnx.save(decoder, tmp_path / "model.onnx")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    _outside(tmp_path / "model.onnx", "weights.bin", lambda name: name == "big")
    (tmp_path / "weights.bin").unlink()
    assert api.audit(tmp_path / "model.onnx").verdict == "passed"


def test_a_table_outside_the_folder_is_not_read(file, capsys):
    _outside(file, "tables.bin", lambda name: name.endswith("_cache"))
    loaded = onnx.load(file, load_external_data=False)
    for tensor in loaded.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../tables.bin"
    file.write_bytes(loaded.SerializeToString())
    assert "outside its folder" in refusal(capsys, file)


def test_an_operator_that_rotates_by_a_rule_of_its_own_is_named(file):
    loaded = onnx.load(file)
    inputs = ["inputs_embeds", "weight"]
    loaded.graph.initializer.append(numpy_helper.from_array(np.zeros((32, 96), np.float32), "weight"))
    loaded.graph.node.append(
        helper.make_node(
            "Attention", inputs, ["own"], name="own_rotation", domain="com.microsoft", num_heads=2, do_rotary=1
        )
    )
    loaded.graph.output.append(helper.make_tensor_value_info("own", TensorProto.FLOAT, None))
    onnx.save(loaded, file)
    (found,) = api.audit(file).diagnoses
    assert found.code == "RD601" and found.where == "own_rotation"


def test_pairs_that_are_neither_halves_nor_neighbours_are_named(file):
    """The second elements of pairs are rotated with the wrong first ones: a sum of two products, but no rotation."""
    loaded = onnx.load(file)
    nodes = list(loaded.graph.node)
    total = next(node for node in nodes if node.name.endswith("q_rotary/Add"))
    product = next(node for node in nodes if node.output[0] == total.input[1])
    loaded.graph.initializer.append(numpy_helper.from_array(np.roll(np.arange(8), 3), "rolled"))
    gather = helper.make_node("Gather", [product.input[0], "rolled"], ["odd"], axis=-1)
    loaded.graph.node.insert(nodes.index(product), gather)
    product.input[0] = "odd"
    onnx.save(loaded, file)
    report = api.audit(file)
    assert report.verdict == "failed" and "RD601" in {one.code for one in report.diagnoses}


def test_the_message_of_a_refusal_is_one_of_ours(tmp_path):
    with pytest.raises(UsageError):
        api.audit(tmp_path / "nothing.onnx")


@pytest.mark.parametrize("shape", [(), (4,), (9, 2, 4)])
@pytest.mark.parametrize("which", ["cos", "sin", "both"])
def test_a_table_that_is_no_matrix_is_named(tmp_path, shape, which):
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 2, "s", 8]),
        helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["b", "s"]),
    ]
    tables = [
        numpy_helper.from_array(np.ones(shape if which in (name, "both") else (9, 4), np.float32), name)
        for name in ("cos", "sin")
    ]
    node = helper.make_node("RotaryEmbedding", ["x", "position_ids", "cos", "sin"], ["y"], domain="com.microsoft")
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph([node], "g", inputs, outputs, tables)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "model.onnx")
    assert main(["check", "--audit", str(tmp_path / "model.onnx")]) in (1, 2)
