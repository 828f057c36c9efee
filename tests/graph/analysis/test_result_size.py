"""Sizes are known before the work: what an operator would make is what it then makes, or an upper bound."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from rope_deploy.errors import EnvironmentMissing, UsageError
from rope_deploy.graph.analysis.result_size import elements, refusal, require_tables

A = np.ones((2, 3), np.float32)
CASES = {
    "ConstantOfShape": ([np.array([4, 5])], {}, 20),
    "Expand": ([A, np.array([7, 1, 3])], {}, 42),
    "Tile": ([A, np.array([2, 5])], {}, 60),
    "Range": ([np.array(0), np.array(10), np.array(3)], {}, 4),
    "Pad": ([A, np.array([1, 0, 1, 2])], {}, 20),
    "Gather": ([A, np.zeros((4, 5), np.int64)], {"axis": 1}, 40),
    "GatherND": ([A, np.zeros((6, 1), np.int64)], {}, 18),
    "MatMul": ([np.ones((2, 4, 3)), np.ones((3, 5))], {}, 40),
    "Add": ([A, np.ones((5, 1, 3), np.float32)], {}, 30),
    "Concat": ([A, A], {"axis": 0}, 12),
    "OneHot": ([np.zeros((2, 3), np.int64), np.array(5), np.array([0.0, 1.0])], {"axis": -1}, 30),
    "Einsum": ([np.ones((2, 3)), np.ones((4,))], {"equation": b"ij,k->ijk"}, 24),
}


@pytest.mark.parametrize("op_type", CASES)
def test_the_estimate_is_what_comes_out(op_type):
    inputs, attributes, most = CASES[op_type]
    names = [f"i{number}" for number in range(len(inputs))]
    node = onnx.helper.make_node(op_type, names, ["y"], **attributes)
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), None)
        for name, array in zip(names, inputs, strict=True)
    ]
    graph = onnx.helper.make_graph([node], "g", infos, [onnx.helper.make_empty_tensor_value_info("y")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    (made,) = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
    assert made.size <= elements(op_type, inputs, attributes) == most


@pytest.mark.parametrize(
    ("op_type", "inputs"),
    [
        ("ConstantOfShape", [np.array([10**5, 10**5])]),
        ("Expand", [A, np.array([10**10, 2, 3])]),
        ("Tile", [A, np.array([10**5, 10**5])]),
        ("Range", [np.array(0), np.array(10**12), np.array(1)]),
        ("Pad", [A, np.array([0, 0, 10**9, 0])]),
        ("OneHot", [np.zeros(9, np.int64), np.array(10**10), np.array([0, 1])]),
        ("Resize", [A, np.array([], np.float32), np.array([], np.float32), np.array([10**6, 10**6])]),
        ("Add", [np.broadcast_to(A[:, :1], (2, 1)), np.broadcast_to(np.float32(0), (10**6, 1, 10**6))]),
        ("Loop", []),
    ],
)
def test_what_would_not_end_is_refused(op_type, inputs):
    assert refusal(op_type, inputs, {})


def test_tables_that_no_fp32_position_reaches_are_refused():
    with pytest.raises(UsageError, match="1000000000000 positions are too many"):
        require_tables(10**12, 64, 1, "--max-position")


def test_tables_that_memory_cannot_hold_are_refused_with_what_they_need(monkeypatch):
    monkeypatch.setattr("rope_deploy.graph.analysis.result_size._free", lambda: 10**9)
    with pytest.raises(EnvironmentMissing, match=r"10000000 positions need about 41 GB") as caught:
        require_tables(10_000_000, 128, 1, "--max-position")
    assert "1 GB are free here" in caught.value.exists
    require_tables(100_000, 128, 1, "--max-position")
