"""Products of activations and positions that are no known rotation: what raising leaves in a graph."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import onnx_ir as ir

from rope_deploy.graph.analysis.data_movement import Marks
from rope_deploy.graph.analysis.dependence import Dependence
from rope_deploy.graph.raising.match import BOTH


def unmatched_products(
    graph: ir.Graph, reasons: Mapping[str, str], marks: Marks, known: Collection[ir.Node] = ()
) -> Iterator[tuple[str, str, str]]:
    """(node, operator, reason) of what still multiplies an activation by something that depends on the positions.

    `reasons` are those why a sum is no rotation, by the name of its node; the nodes `known` are part of a rotation.
    """
    for node in graph:
        if node.op_type not in ("Mul", "MatMul", "Einsum") or node in known:
            continue
        kinds = [marks.get(v, Dependence.NOTHING) for v in node.inputs if v is not None]
        floating = all(v is None or v.dtype is None or v.dtype.is_floating_point() for v in node.inputs)
        mixes = Dependence.POSITION in kinds and (Dependence.ACTIVATION in kinds or BOTH in kinds)
        if floating and mixes and not _scales(node, marks):
            users = [user.name for user, _ in node.outputs[0].uses()]
            why = next((reasons[name] for name in users if name in reasons), "it is not part of a sum of two products")
            yield node.name or node.outputs[0].name, node.op_type, why


def _scales(node: ir.Node, marks: Marks) -> bool:
    """Whether a product only scales each token as a whole, as attention temperatures that grow with the position do."""
    factors = [v for v in node.inputs if marks.get(v) == Dependence.POSITION]
    return node.op_type == "Mul" and all(v.shape is not None and v.shape[-1] == 1 for v in factors)
