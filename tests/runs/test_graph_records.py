"""What a written file holds is read from the file, and a planted fault in it is seen."""

import shutil

import numpy as np
import onnx
import pytest
from onnx import helper

from rope_deploy.artifact import STYLES, load_manifest
from rope_deploy.results.records import Report
from rope_deploy.runs.gates import with_gates
from rope_deploy.runs.graph_records import read_graph
from rope_deploy.runs.open_artifact import Opened
from tests.runtimes.toy import LAYERS, write_toy

CONDITIONS = ("all_rotations_converted", "one_table_per_rotation")


def judged(folder, **limits):
    graph = read_graph(Opened(folder, load_manifest(folder)), limits.get("provider"))
    report = with_gates(Report("t", "s", "", "m", {}, 0.0, graphs=(graph,)), **limits)
    return {gate.name: gate for gate in report.gates}


@pytest.fixture
def copied(artifacts, tmp_path):
    """One style whose graph may be spoiled; `edit` gets its protobuf."""

    def make(style, edit=lambda graph: None):
        folder = tmp_path / style
        shutil.copytree(artifacts / style, folder)
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        edit(model.graph)
        onnx.save(model, folder / "model.onnx")
        return folder

    return make


@pytest.mark.parametrize("style", STYLES)
def test_an_export_meets_every_condition(artifacts, style):
    limits = dict.fromkeys(CONDITIONS, True)
    gates = judged(artifacts / style, **limits, max_runtime_cos_sin=0, provider="CPUExecutionProvider")
    assert {name: gate.verdict for name, gate in gates.items()} == dict.fromkeys(gates, "passed") and len(gates) == 4


def test_a_rotation_taken_out_is_missed(copied):
    def drop_one(graph):
        node = next(node for node in graph.node if node.op_type == "RotaryEmbedding")
        node.CopyFrom(helper.make_node("Identity", node.input[:1], node.output, name=node.name))

    gate = judged(copied("onnx", drop_one), all_rotations_converted=True)["all_rotations_converted"]
    assert gate.verdict == "failed" and "3 of 4 rotations" in gate.measured


def test_a_rotation_in_another_form_is_noticed(artifacts, tmp_path):
    """The graph of one style under the manifest of another."""
    folder = tmp_path / "mixed"
    shutil.copytree(artifacts / "tables", folder)
    shutil.copy(artifacts / "onnx" / "model.onnx", folder / "model.onnx")
    gate = judged(folder, all_rotations_converted=True)["all_rotations_converted"]
    assert gate.verdict == "failed" and "4 × RotaryEmbedding (ONNX)" in gate.measured


@pytest.mark.parametrize("style", ["onnx", "tables"])
def test_a_second_table_for_one_layer_is_noticed(copied, style):
    def copy_table(graph):
        table = next(one for one in graph.initializer if one.name.endswith("cos_cache"))
        twin = graph.initializer.add()
        twin.CopyFrom(table)
        twin.name = "another"
        users = [node for node in graph.node if table.name in node.input]
        if len(users) == 1:  # read once for all layers: let one more read the copy
            graph.node.insert(0, helper.make_node("Identity", [twin.name], ["again"]))
            mixed = helper.make_node("Where", ["never", "again", table.name], ["either"])
            never = graph.initializer.add()
            never.CopyFrom(onnx.numpy_helper.from_array(np.array(False), "never"))
            graph.node.insert(1, mixed)
            users[0].input[list(users[0].input).index(table.name)] = "either"
        else:
            users[-1].input[list(users[-1].input).index(table.name)] = twin.name

    gate = judged(copied(style, copy_table), one_table_per_rotation=True)["one_table_per_rotation"]
    assert gate.verdict == "failed" and "3 tables where 2 are needed" in gate.measured


def test_a_table_for_every_layer_is_noticed(tmp_path):
    write_toy(tmp_path / "toy")
    gate = judged(tmp_path / "toy", one_table_per_rotation=True)["one_table_per_rotation"]
    assert gate.verdict == "failed" and f"{2 * LAYERS} tables where 2 are needed" in gate.measured


def test_a_cosine_computed_at_run_time_is_counted(copied):
    def compute(graph):
        graph.node.insert(0, helper.make_node("Cos", ["a"], ["b"], name="planted"))
        graph.initializer.append(helper.make_tensor("a", onnx.TensorProto.FLOAT, [1], [1.0]))

    assert judged(copied("onnx", compute), max_runtime_cos_sin=0)["max_runtime_cos_sin"].verdict == "failed"


def test_a_fallback_is_noticed(artifacts):
    """Azure's provider is in every build of ONNX Runtime and takes none of these nodes."""
    gate = judged(artifacts / "onnx", provider="AzureExecutionProvider")["provider"]
    assert gate.verdict == "failed" and "on CPUExecutionProvider" in gate.measured
