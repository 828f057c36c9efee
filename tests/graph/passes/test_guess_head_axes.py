"""Lost axes of heads are named by their position; axes that are known keep their names."""

import onnx_ir as ir
import pytest

from rope_deploy.graph.passes.guess_head_axes import GuessHeadAxesPass

GUESSES = {
    "heads first": ((None, 4, "x", 16), ["batch", 4, "sequence", 16]),
    "tokens first": ((None, None, 4, 16), ["batch", "sequence", 4, 16]),
    "known": (("batch", 4, "total", 16), ["batch", 4, "total", 16]),
    "no heads": ((None, None, None, 16), [None, None, None, 16]),
    "three axes": ((None, None, 16), [None, None, 16]),
}


@pytest.mark.parametrize("case", GUESSES)
def test_batch_and_sequence_are_named(case):
    before, after = GUESSES[case]
    model = ir.from_onnx_text("""
<ir_version: 10, opset_import: ["" : 18]>
g (float[b, s] x) => (float[b, s] y) { y = Neg(x) }""")
    model.graph[0].outputs[0].shape = ir.Shape(before)
    assert GuessHeadAxesPass()(model).modified == (list(before) != after)
    assert [dim if isinstance(dim, int) else dim.value for dim in model.graph[0].outputs[0].shape] == after
