"""A graph exported in style plugin, read by a real TensorRT parser: the plugin is found, and its fields arrive."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from rope_deploy.graph.lower.lower_rotations import lower_rotations
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from tests.graph.graphs import ROWS, graph, rotation_graph
from tests.graph.raising.test_raise_rotations import two_sites
from tests.plugins.driving import Built

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs tensorrt-rtx")


def exported(folder: Path, model: ir.Model, body: bool = True, **changed: object) -> Path:
    """The file, its rotations lowered; without the operators' bodies, or with attributes changed, if asked for."""
    proto = ir.to_proto(lower_rotations(raise_rotations(model, ROWS), "plugin").model)
    if not body:
        del proto.functions[:]
    for node in proto.graph.node:
        for index, attribute in enumerate(node.attribute):
            if attribute.name in changed and node.domain == "rope_deploy":
                new = onnx.helper.make_attribute(attribute.name, changed[attribute.name])
                node.attribute[index].CopyFrom(new)
    path = folder / "model.onnx"
    onnx.save(proto, path)
    return path


def parse(built: Built, model: Path, how: str = "override") -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.plugins.in_parser", str(built.library), str(model), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=200,
    )
    return ran.stdout


@pytest.mark.parametrize("body", [True, False], ids=["with body", "without"])
def test_the_parser_makes_the_plugin(tmp_path: Path, built: Built, body: bool) -> None:
    said = parse(built, exported(tmp_path, graph(two_sites(), result="batch, 2, sequence, sequence"), body))
    assert "Searching for plugin: RopeRotateQK, plugin_version: 1, plugin_namespace: \n" in said
    assert "Successfully created plugin: RopeRotateQK" in said
    assert "cannot be created" not in said


def test_the_parser_makes_the_plugin_of_one_tensor(tmp_path: Path, built: Built) -> None:
    said = parse(built, exported(tmp_path, rotation_graph("rotate_half")))
    assert "Successfully created plugin: RopeRotate\n" in said


def test_no_attribute_is_missing_in_the_parsers_eyes(tmp_path: Path, built: Built) -> None:
    assert "not found in plugin node" not in parse(built, exported(tmp_path, rotation_graph("rotate_half")))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"head_dim": 7}, "head_dim is 7, but must be even"),
        ({"rotary_dim": 70}, "rotary_dim is 70, more than the 8 of head_dim"),
        ({"heads_axis": 5}, "heads_axis is 5"),
        ({"interleaved": 3}, "interleaved is 3"),
        ({"out_heads_axis": 4}, "out_heads_axis is 4"),
        ({"proportional": 5}, "proportional is 5"),
        ({"out_of_range": 6}, "out_of_range is 6"),
        ({"sections": [1, 2, 3]}, "sections are 1, 2 and 3"),
        ({"sections_interleaved": 1}, "sections_interleaved needs sections"),
        ({"norm_eps": 2.5}, "norm_eps is 2.5"),
    ],
    ids=str,
)
def test_every_field_arrives_and_its_refusal_reaches_the_parsers_logger(
    tmp_path: Path, built: Built, changed: dict, words: str
) -> None:
    said = parse(built, exported(tmp_path, rotation_graph("rotate_half"), **changed))
    (refusal,) = [line for line in said.splitlines() if "cannot be created" in line]
    assert refusal.startswith("ERROR RopeRotate ") and words in refusal
    assert "PARSED False" in said and "Successfully created" not in said


def test_without_the_flag_the_body_wins(tmp_path: Path, built: Built) -> None:
    said = parse(built, exported(tmp_path, rotation_graph("rotate_half")), "plain")
    assert "PARSED True" in said and "created plugin" not in said
