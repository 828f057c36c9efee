"""Edits change what they name, and nothing where they do not fit."""

import json
import random
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from fuzz.edits import apply, random_edit
from fuzz.values import as_json


@pytest.fixture
def document(tmp_path: Path) -> Path:
    (tmp_path / "d.json").write_text('{"a": {"b": [1, 2]}, "c": "text"}')
    return tmp_path


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    nodes = [helper.make_node("Neg", ["x"], ["m"]), helper.make_node("Abs", ["m"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:])), tmp_path / "g.onnx")
    return tmp_path


@pytest.mark.parametrize(
    ("edit", "left"),
    [
        (["json.set", ["a", "b", 1], 9], {"a": {"b": [1, 9]}, "c": "text"}),
        (["json.set", ["c"], "{canary}/x"], {"a": {"b": [1, 2]}, "c": "CANARY/x"}),
        (["json.delete", ["a", "b"]], {"a": {}, "c": "text"}),
        (["json.add", ["a"], "k", {"$digits": 2}], {"a": {"b": [1, 2], "k": 100}, "c": "text"}),
        (["json.set", [], 3], 3),
        (["json.set", ["a", "x", 1], 9], {"a": {"b": [1, 2]}, "c": "text"}),
    ],
)
def test_documents_are_edited_by_their_keys(document: Path, edit, left) -> None:
    apply(["d.json", *edit], document, Path("CANARY"))
    assert json.loads((document / "d.json").read_text()) == left


def test_marked_values_are_written_as_what_they_stand_for() -> None:
    document = {"a": [{"$float": "nan"}, {"$float": "-inf"}], "b": {"$long": 3}, "c": {"$digits": 5000}, "d": {"e": 1}}
    assert as_json(document) == '{"a": [NaN, -Infinity], "b": "xxx", "c": 1' + "0" * 5000 + ', "d": {"e": 1}}'


def test_a_value_can_be_nested_deeper_than_python_recurses(document: Path) -> None:
    apply(["d.json", "json.set", ["c"], {"$deep": 5000}], document, document)
    assert (document / "d.json").read_text().count("[") == 5001


def test_graphs_are_edited_by_their_fields(graph: Path) -> None:
    apply(["g.onnx", "proto.set", ["graph", "node", 0, "op_type"], "Cos"], graph, graph)
    apply(["g.onnx", "proto.copy", ["graph", "node", 1]], graph, graph)
    apply(["g.onnx", "proto.wire", 2, 0, 1, 0], graph, graph)
    apply(["g.onnx", "proto.delete", ["graph", "input", 0]], graph, graph)
    apply(["g.onnx", "proto.set", ["graph", "node", 7, "op_type"], "Sin"], graph, graph)
    held = onnx.load(graph / "g.onnx").graph
    assert [node.op_type for node in held.node] == ["Cos", "Abs", "Abs"]
    assert list(held.node[2].input) == ["y"]
    assert not held.input


@pytest.mark.parametrize(
    ("edit", "left"),
    [
        (["bytes.put", 0.5, "58"], b"abXd"),
        (["bytes.cut", 0.25], b"a"),
        (["bytes.drop", 0.0, 2], b"cd"),
        (["file.empty"], b""),
    ],
)
def test_any_file_is_edited_by_its_bytes(tmp_path: Path, edit, left: bytes) -> None:
    (tmp_path / "f").write_bytes(b"abcd")
    apply(["f", *edit], tmp_path, tmp_path)
    assert (tmp_path / "f").read_bytes() == left


def test_a_file_becomes_a_pipe_a_link_a_folder_or_nothing(tmp_path: Path) -> None:
    for kind, became in (("fifo", Path.is_fifo), ("folder", Path.is_dir), ("link", Path.is_symlink)):
        apply(["f", f"file.{kind}", "target"], tmp_path, tmp_path)
        assert became(tmp_path / "f")
    apply(["f", "file.remove"], tmp_path, tmp_path)
    assert not (tmp_path / "f").is_symlink()


@pytest.mark.parametrize("name", ["d.json", "g.onnx"])
def test_random_edits_are_the_same_for_one_seed_and_mostly_change_the_file(document: Path, graph: Path, name) -> None:
    before, changed = (graph / name).read_bytes(), 0
    for number in range(60):
        one, again = (random_edit(random.Random(number), graph, name) for _ in range(2))
        assert one == again
        assert json.loads(json.dumps(one)) == one  # as a recipe keeps it
        apply(one, graph, graph)
        path = graph / name
        changed += not path.is_file() or path.is_symlink() or path.read_bytes() != before
        apply([name, "file.remove"], graph, graph)
        path.write_bytes(before)
    assert changed > 45
