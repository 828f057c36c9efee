"""Guess head axes: the batch and the sequence of tensors of heads, where shape inference lost them.

A wrong guess does no harm while rotations are searched: a rotation is followed with these sizes, and tensors that do
not fit stop it. It must not be written to a file: `KeepProvenShapesPass` removes it.
"""

from __future__ import annotations

import onnx_ir as ir

KNOWN = frozenset({"batch", "sequence", "past", "total"})
# Which axes of four are numbers -> which are batch and sequence.
BATCH_AND_SEQUENCE = {(False, True, False, True): (0, 2), (False, False, True, True): (0, 1)}


class GuessHeadAxesPass(ir.passes.InPlacePass):
    """Names the axes of tensors [?, heads, ?, head_dim] and [?, ?, heads, head_dim] `batch` and `sequence`.

    Requires our names on the axes that are known. Ensures that those keep theirs. Changes nothing where all are known.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in model.graph:
            for value in node.outputs:
                if value.shape is None or len(value.shape) != 4:
                    continue
                axes = BATCH_AND_SEQUENCE.get(tuple(isinstance(dim, int) for dim in value.shape), ())
                names = dict(zip(axes, ("batch", "sequence"), strict=False))
                unknown = {axis: name for axis, name in names.items() if str(value.shape[axis].value) not in KNOWN}
                if unknown:
                    value.shape = ir.Shape([unknown.get(axis, dim) for axis, dim in enumerate(value.shape)])
                    modified = True
        return ir.passes.PassResult(model, modified)
