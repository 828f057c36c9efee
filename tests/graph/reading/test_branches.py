"""What is inside a Loop or a Scan is not followed, and that is said once for all of a kind."""

import onnx
import pytest
from onnx import TensorProto, helper

from rope_deploy.graph.reading.branches import branches


def scan(number: int) -> onnx.NodeProto:
    """A running sum."""
    names = [f"{name}{number}" for name in ("before", "row", "after", "out")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in names]
    nodes = [helper.make_node("Add", names[:2], [names[2]]), helper.make_node("Neg", [names[2]], [names[3]])]
    body = helper.make_graph(nodes, f"body{number}", values[:2], values[2:])
    return helper.make_node("Scan", ["start", "rows"], [f"last{number}", f"sums{number}"], body=body, num_scan_inputs=1)


@pytest.mark.parametrize(
    ("scans", "stated"),
    [
        (0, ()),
        (1, ("2 nodes inside a Scan were not looked into.",)),
        (3, ("6 nodes inside 3 nodes of type Scan were not looked into.",)),
    ],
)
def test_parts_that_are_not_followed_are_named_by_kind(tmp_path, scans, stated):
    inputs = [
        helper.make_tensor_value_info("start", TensorProto.FLOAT, [2]),
        helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["sequence", 2]),
    ]
    nodes = [*(scan(number) for number in range(scans)), helper.make_node("Neg", ["rows"], ["negative"])]
    outputs = [helper.make_tensor_value_info("negative", TensorProto.FLOAT, ["sequence", 2])]
    outputs += [helper.make_tensor_value_info(f"sums{n}", TensorProto.FLOAT, ["sequence", 2]) for n in range(scans)]
    graph = helper.make_graph(nodes, "graph", inputs, outputs)
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    (branch,) = branches(path)
    assert branch.skipped == stated
