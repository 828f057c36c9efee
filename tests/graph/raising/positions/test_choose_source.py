"""Where positions come from is decided by a graph's inputs."""

import onnx_ir as ir
import pytest

from rope_deploy.graph.raising.positions.choose_source import choose_source
from rope_deploy.graph.raising.positions.counted_in_graph import CountedInGraph
from rope_deploy.graph.raising.positions.fixed_rows import FixedRows
from rope_deploy.graph.raising.positions.from_input import FromInput

SOURCES = {
    "float[batch, 4] x, int64[batch, sequence] position_ids": FromInput,
    "float[batch, 6, 4] x": FixedRows,
    "float[2, 6, 4] x": FixedRows,
    "float[batch, sequence, 4] x": CountedInGraph,
}


@pytest.mark.parametrize("inputs", SOURCES)
def test_the_source_follows_from_the_inputs(inputs):
    shape = inputs.split("x")[0].strip()
    model = ir.from_onnx_text(f"""
<ir_version: 10, opset_import: ["" : 18]>
g ({inputs}) => ({shape} y) {{ y = Neg(x) }}""")
    assert type(choose_source(model.graph, 16, None, None)) is SOURCES[inputs]
