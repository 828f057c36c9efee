"""What a file takes is read off its declarations, and how far its whole numbers may go off the tables they index."""

import numpy as np
import onnx
import pytest

from rope_deploy.errors import UsageError
from rope_deploy.graph.reading.declared_inputs import Input, inputs_of

TEXT = """
<ir_version: 10, opset_import: ["" : 18]>
g (int64[batch, sequence] input_ids, int64[batch, 2] types, bfloat16[?, 4] x, float w) => (float y)
<float w = {1.0}, float[7, 2] words = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14},
 float[3, 2] kinds = {1, 2, 3, 4, 5, 6}, int64[1] flat = {-1}>
{ ids = Reshape(input_ids, flat)
  small = Cast <to = 6> (ids)
  a = Gather(words, small)
  b = Gather <axis = 1> (kinds, types)
  s = ReduceSum(a)
  t = ReduceSum(b)
  y = Add(s, t) }
"""


def test_inputs_are_described(tmp_path):
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "in.onnx")
    assert inputs_of(tmp_path / "in.onnx") == (
        Input("input_ids", "int64", ("batch", "sequence"), below=7),
        Input("types", "int64", ("batch", 2), below=2),
        Input("x", "bfloat16", (None, 4)),
    )


def test_what_is_not_onnx_is_refused(tmp_path):
    (tmp_path / "in.onnx").write_bytes(np.arange(9).tobytes())
    with pytest.raises(UsageError):
        inputs_of(tmp_path / "in.onnx")
