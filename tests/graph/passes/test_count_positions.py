"""A graph that is to count its positions itself counts; one that already does stays as it is."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import onnxruntime

from rope_deploy.graph.passes.count_positions import CountPositionsPass


def model(*, takes_positions: bool) -> ir.Model:
    """y = positions, or tokens where none are taken."""
    given = [ir.Value(name=name, shape=ir.Shape(["batch", "sequence"]), type=ir.TensorType(ir.DataType.INT64))
             for name in ("input_ids", "position_ids")[: 1 + takes_positions]]  # fmt: skip
    double = ir.node("Add", [given[-1], given[-1]])
    double.outputs[0].name, double.outputs[0].dtype = "y", ir.DataType.INT64
    graph = ir.Graph(given, double.outputs, nodes=[double], opset_imports={"": 18}, name="g")
    return ir.Model(graph, ir_version=10)


def answer(made: ir.Model, tokens: np.ndarray) -> np.ndarray:
    made.graph.sort()
    session = onnxruntime.InferenceSession(ir.to_proto(made).SerializeToString())
    return session.run(None, {"input_ids": tokens})[0]


def test_positions_are_counted():
    made = model(takes_positions=True)
    assert CountPositionsPass()(made).modified
    assert [value.name for value in made.graph.inputs] == ["input_ids"]
    assert Counter(node.op_type for node in made.graph) == {
        "Shape": 2, "Squeeze": 1, "Range": 1, "Expand": 1, "Add": 2
    }  # fmt: skip
    tokens = np.full((2, 4), 9)
    assert np.array_equal(answer(made, tokens), 2 * np.arange(4)[None].repeat(2, 0))
    assert not np.array_equal(answer(made, tokens), 2 * tokens)


def test_a_graph_that_takes_none_is_left_alone():
    made = model(takes_positions=False)
    assert not CountPositionsPass()(made).modified
    assert [node.op_type for node in made.graph] == ["Add"]
    tokens = np.array([[3, 1, 4]])
    assert np.array_equal(answer(made, tokens), 2 * tokens)
