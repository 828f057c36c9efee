"""Keep proven shapes: those that inference proves are written into a file, and no others.

A runtime believes them. ONNX Runtime gives two tensors one buffer if their shapes have the same numbers and names, so
an axis with a wrong name ends every call: "Shape mismatch attempting to re-use buffer".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from rope_deploy.graph.passes.library_pass import infer_shapes


class KeepProvenShapesPass(ir.passes.InPlacePass):
    """Replaces every shape by what follows from those `declared` for inputs and outputs, by name.

    Requires nothing. Ensures that shapes guessed in the meantime are gone; those of constants stay. A value whose shape
    onnx cannot infer has none, which every runtime takes. Changes nothing where all shapes are what inference finds.
    """

    def __init__(self, declared: Mapping[str, ir.Shape | None]):
        self._declared = declared

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        before = {value: (value.shape, value.dtype) for value in _values(model)}
        for node in _nodes(model):
            for value in node.outputs:
                value.shape = None
        for value in (*model.graph.inputs, *model.graph.outputs):
            value.shape = self._declared.get(value.name)
        infer_shapes()(model)
        return ir.passes.PassResult(model, any((v.shape, v.dtype) != known for v, known in before.items()))


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from (*model.graph.inputs, *model.graph.outputs)
    for node in _nodes(model):
        yield from node.outputs
