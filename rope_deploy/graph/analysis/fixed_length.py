"""Whether every call of a graph has as many tokens, and no input says where they stand."""

from __future__ import annotations

import onnx_ir as ir

from rope_deploy.graph.analysis.dependence import POSITION_INPUT


def has_fixed_rows(graph: ir.Graph) -> bool:
    """Whether token number r is at the same position in every call, as the patches of an image are.

    That is so where `graph` takes no positions and all axes of its inputs but the batch have a fixed size.
    """
    if any(value.name == POSITION_INPUT for value in graph.inputs):
        return False
    return all(isinstance(dim, int) or str(dim) == "batch" for value in graph.inputs for dim in value.shape)
