import json

import numpy as np
import onnx
import pytest

from rope_deploy.artifact import MANIFEST_NAME, MODEL_NAME
from rope_deploy.errors import UsageError
from rope_deploy.trt.engine_source import open_source
from tests.runtimes.toy import DATA_NAME, write_toy
from tests.trt.graphs import BFLOAT16, PLAIN, UNNAMED, write_onnx


def test_an_artifact_brings_its_manifest_and_hashes(tmp_path):
    manifest = write_toy(tmp_path / "toy", "tables")
    opened = open_source(tmp_path / "toy")
    assert opened.manifest == manifest
    assert opened.style == "tables"
    assert opened.files == manifest.files


def test_the_graph_file_of_an_artifact_is_the_artifact(tmp_path):
    write_toy(tmp_path / "toy", "tables")
    assert open_source(tmp_path / "toy" / MODEL_NAME) == open_source(tmp_path / "toy")


def test_a_bare_file_tells_its_inputs(tmp_path):
    opened = open_source(write_onnx(tmp_path / "g.onnx", PLAIN))
    assert [(i.name, i.dtype, i.shape) for i in opened.inputs] == [
        ("x", "float32", ("batch", "width", 8)),
        ("y", "float32", ("batch", "width", 8)),
    ]
    assert opened.manifest is None
    assert list(opened.files) == ["g.onnx"]


def test_an_unnamed_dimension_gets_a_name_to_ask_for(tmp_path):
    assert open_source(write_onnx(tmp_path / "g.onnx", UNNAMED)).inputs[0].shape == ("x[0]", 8)


def test_bfloat16_inside_the_graph_is_seen(tmp_path):
    assert open_source(write_onnx(tmp_path / "g.onnx", BFLOAT16)).dtypes == ("bfloat16", "float32")


@pytest.mark.parametrize("changed", [MODEL_NAME, DATA_NAME])
def test_an_artifact_whose_files_changed_is_refused(tmp_path, changed):
    write_toy(tmp_path, "tables")
    content = bytearray((tmp_path / changed).read_bytes())
    content[-1] ^= 1
    (tmp_path / changed).write_bytes(content)
    with pytest.raises(UsageError, match=f"{changed} is missing, damaged or changed"):
        open_source(tmp_path)


def test_an_artifact_whose_manifest_lists_no_graph_is_refused(tmp_path):
    write_toy(tmp_path, "tables")
    document = json.loads((tmp_path / MANIFEST_NAME).read_text())
    document["files"] = {}
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(document))
    with pytest.raises(UsageError, match=MODEL_NAME):
        open_source(tmp_path)


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="There is no"):
        open_source(tmp_path / "absent")
    with pytest.raises(UsageError, match="not an artifact"):
        open_source(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 40, -20])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = write_onnx(tmp_path / "g.onnx", PLAIN)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match=r"is not (an|a sound) ONNX file"):
        open_source(path)


def test_text_is_not_onnx(tmp_path):
    (tmp_path / "g.onnx").write_text("hello\n" * 99)
    with pytest.raises(UsageError, match=r"is not (an|a sound) ONNX file"):
        open_source(tmp_path / "g.onnx")


@pytest.fixture
def external(tmp_path):
    model = onnx.parser.parse_model(PLAIN.replace("Add(x, y)", "Add(x, w)"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(8, np.float32), "w"))
    onnx.save(model, tmp_path / "g.onnx", save_as_external_data=True, location="g.data", size_threshold=0)
    return tmp_path / "g.onnx"


def test_weights_in_another_file_are_part_of_the_source(external):
    assert list(open_source(external).files) == ["g.onnx", "g.data"]


def test_missing_weights_are_named(external):
    (external.parent / "g.data").unlink()
    with pytest.raises(UsageError, match=r"has its weights in g\.data, which is not beside it"):
        open_source(external)


def test_short_weights_are_named(external):
    (external.parent / "g.data").write_bytes(b"\0" * 31)
    with pytest.raises(UsageError, match=r"ends at byte 32 of 'g\.data', which is cut short at 31"):
        open_source(external)


@pytest.mark.parametrize("location", ["../secret.txt", "/etc/hostname", "", "a\\b", "link"])
def test_weights_elsewhere_are_neither_opened_nor_hashed(tmp_path, monkeypatch, location):
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret.txt")
    tensor = onnx.TensorProto(name="leak", data_type=onnx.TensorProto.UINT8, dims=[6])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    node = onnx.helper.make_node("Identity", ["leak"], ["y"])
    graph = onnx.helper.make_graph([node], "bare", [], [], [tensor])
    (folder / "bare.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    hashed = []
    monkeypatch.setattr("rope_deploy.trt.engine_source.hash_file", hashed.append)
    with pytest.raises(UsageError, match=r"its weights are in|which is not named"):
        open_source(folder / "bare.onnx")
    assert not hashed
