"""Sound ONNX files are read as they are, wherever they lie, and no weight is read."""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from rope_deploy.errors import UsageError
from rope_deploy.graph.io import read_model, read_proto
from rope_deploy.graph.reading.survey import survey
from rope_deploy.graph.validation import ExternalFiles
from rope_deploy.trt.engine_source import open_source
from tests.graph.sound import node, tensor, whole


@pytest.mark.parametrize("text", [b"location", b"data", b"offset"])
def test_a_location_that_is_no_text_is_refused(path, text):
    content = path.read_bytes()
    assert content.count(text)
    path.write_bytes(content.replace(text, b"\xff" + text[1:], 1))
    with pytest.raises(UsageError, match="no text"):
        read_model(path)


def test_a_sound_file_is_read_with_its_weights(path):
    model = read_model(path)
    assert [node.op_type for node in model.graph][:2] == ["Gather", "Mul"]
    assert model.graph.initializers["table"].const_value.numpy()[7, 3] == 31


def test_every_reader_refuses_an_unsound_file(path):
    model = whole(path)
    node(model, "times").input[1] = "nothing"
    path.write_bytes(model.SerializeToString())
    for reader in (survey, open_source, read_model):
        with pytest.raises(UsageError, match="which nothing makes"):
            reader(path)


def test_no_weight_is_read(path, monkeypatch):
    def forbidden(self):
        raise AssertionError("a weight was read")

    monkeypatch.setattr(ir.ExternalTensor, "_load", forbidden)
    read_model(path)


def test_a_file_that_is_cut_short_while_it_is_read_is_refused(path, monkeypatch):
    """Whole numbers may be a shape, so they are read before any other tensor is."""
    model, beside = whole(path), path.parent / "axes"
    axes = tensor(model, "last")
    beside.write_bytes(np.array([0, -1], np.int64).tobytes())
    axes.CopyFrom(numpy_helper.from_array(np.array([-1]), "last"))
    onnx.external_data_helper.set_external_data(axes, "axes", 8, 8)
    axes.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    read_proto(path)
    find = ExternalFiles.find

    def found_and_then_cut(self, location):
        found = find(self, location)
        if location == "axes":
            beside.write_bytes(beside.read_bytes()[:12])
        return found

    monkeypatch.setattr(ExternalFiles, "find", found_and_then_cut)
    with pytest.raises(UsageError, match="its weights in 'axes' end before byte 16"):
        read_proto(path)


def test_nodes_out_of_order_are_put_in_order(path):
    model = whole(path)
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    path.write_bytes(model.SerializeToString())
    assert [node.name for node in read_proto(path)[0].graph.node][-1] == "end"


def test_shapes_that_were_only_written_down_wrong_are_dropped(path):
    model = whole(path)
    model.graph.value_info.append(helper.make_tensor_value_info("product", TensorProto.FLOAT, [7]))
    path.write_bytes(model.SerializeToString())
    assert "product" not in [value.name for value in read_proto(path)[0].graph.value_info]


def test_an_axis_of_minus_one_is_open(path):
    model = whole(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    path.write_bytes(model.SerializeToString())
    assert read_model(path).graph.inputs[0].shape[0] != -1


def test_missing_weights_are_named_where_they_are_needed(path):
    (path.parent / "data").unlink()
    with pytest.raises(UsageError, match="has its weights in data, which is not beside it"):
        read_model(path)
    assert read_model(path, weights=False).graph.initializers["table"].shape == (8, 4)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["data", "model.onnx"])
def test_a_pipe_is_refused_and_never_opened(path, name):
    (path.parent / name).unlink()
    os.mkfifo(path.parent / name)
    with pytest.raises(UsageError, match="is no regular file"):
        read_model(path)


def test_a_device_is_refused(path):
    (path.parent / "data").unlink()
    (path.parent / "data").symlink_to("/dev/zero")
    with pytest.raises(UsageError, match="is no regular file"):
        read_model(path)


def test_a_link_that_leads_to_itself_is_refused(path):
    (path.parent / "data").unlink()
    (path.parent / "data").symlink_to("data")
    with pytest.raises(UsageError, match="cannot be read"):
        read_model(path)


def test_links_into_one_store_are_followed_as_in_the_cache_of_a_hub(path, tmp_path):
    store, shown = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    store.mkdir()
    shown.mkdir(parents=True)
    for name in ("model.onnx", "data"):
        (tmp_path / name).rename(store / f"blob-{name}")
        (shown / name).symlink_to(f"../../blobs/blob-{name}")
    assert read_model(shown / "model.onnx").graph.initializers["table"].const_value.numpy()[7, 3] == 31
    assert set(open_source(shown / "model.onnx").files) == {"model.onnx", "data"}


def test_a_link_out_of_the_folder_is_not_followed(path, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (path.parent / "data").rename(elsewhere / "data")
    (path.parent / "data").symlink_to(elsewhere / "data")
    with pytest.raises(UsageError, match="a link that leads out of its folder"):
        read_model(path)


def test_hard_linked_weights_are_read(path):
    os.link(path.parent / "data", path.parent / "twin")
    assert read_model(path).graph.initializers["table"].const_value.numpy()[7, 3] == 31
