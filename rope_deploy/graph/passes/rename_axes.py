"""Rename axes: those of a file's values get our names, once those of its inputs have them."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir


class RenameAxesPass(ir.passes.InPlacePass):
    """Replaces the names of axes in the shapes of all values that nodes make.

    `symbols` are our names by those of the file. Requires nothing. Ensures that past + sequence, in either order, is
    `total`. Changes nothing where no shape has a name that `symbols` knows.
    """

    def __init__(self, symbols: Mapping[str, str]):
        self._symbols = symbols

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in model.graph:
            for value in node.outputs:
                if value.shape is not None:
                    shape = ir.Shape([self._renamed(dim) for dim in value.shape])
                    modified |= shape != value.shape
                    value.shape = shape
        return ir.passes.PassResult(model, modified)

    def _renamed(self, dim: int | ir.SymbolicDim) -> int | str | None:
        if isinstance(dim, int) or dim.value is None:
            return dim if isinstance(dim, int) else None
        if (whole := str(dim.value)) in self._symbols:
            return self._symbols[whole]
        terms = [self._symbols.get(term, term) for term in whole.split()]
        return "total" if sorted(terms) == ["+", "past", "sequence"] else " ".join(terms)
