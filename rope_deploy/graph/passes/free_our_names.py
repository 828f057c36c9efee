"""Free our names: a file, which may be one of ours, keeps none that new nodes and constants are about to get."""

from __future__ import annotations

import onnx_ir as ir

OUR_PREFIXES = ("rope", "int_", "ints_", "axes_", "zero_", "masked_", "scale_", "attention/", "before/")


class FreeOurNamesPass(ir.passes.InPlacePass):
    """Renames values and nodes that begin with one of OUR_PREFIXES.

    Requires nothing. Ensures that inputs and outputs of the graph keep their names. Changes nothing else, and nothing
    in a graph without such names.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        inner = [value for node in graph for value in node.outputs if not value.is_graph_output()]
        constants = [value for value in graph.initializers.values() if value.name.startswith(OUR_PREFIXES)]
        values = [value for value in inner if value.name and value.name.startswith(OUR_PREFIXES)] + constants
        nodes = [node for node in graph if node.name and node.name.startswith(OUR_PREFIXES)]
        for number, named in enumerate(values + nodes):
            named.name = f"before/{number}/{named.name}"
        return ir.passes.PassResult(model, bool(values or nodes))
