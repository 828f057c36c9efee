"""The nodes whose time is the rotation's: those between its input and its output, and no others."""

import onnx
import pytest

from rope_deploy.artifact import MODEL_NAME
from rope_deploy.graph.analysis.rotation_nodes import rotating_nodes
from tests.runtimes.toy import LAYERS, write_toy


def found(folder, style):
    manifest = write_toy(folder, style)
    return rotating_nodes(folder / MODEL_NAME, manifest.sites)


def test_an_operator_and_the_positions_it_reads_are_the_rotation(tmp_path):
    names = found(tmp_path, "onnx")
    assert sum(operator == "RotaryEmbedding" for _, operator in names) == 2 * LAYERS
    assert {operator for _, operator in names} == {"RotaryEmbedding", "Add", "Less", "Where"}  # and the guard's
    assert ("shifted", "Add") in names


def test_standard_operators_are_the_rotation_and_the_projection_is_not(tmp_path):
    operators = {operator for _, operator in found(tmp_path, "tables")}
    assert {"Mul", "Sub", "Add", "Concat", "Split", "Gather"} <= operators
    assert not operators & {"MatMul", "Attention", "Transpose", "Reshape"}


def test_a_fused_rotation_has_no_nodes_of_its_own(tmp_path):
    assert found(tmp_path, "contrib") == frozenset()


@pytest.mark.parametrize("style", ["onnx", "tables"])
def test_nodes_without_names_cannot_be_told_apart_and_are_left_out(tmp_path, style):
    manifest = write_toy(tmp_path, style)
    model = onnx.load(tmp_path / MODEL_NAME, load_external_data=False)
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, tmp_path / MODEL_NAME)
    assert rotating_nodes(tmp_path / MODEL_NAME, manifest.sites) == frozenset()
