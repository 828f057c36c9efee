"""Merge what is equal: constants first, then nodes."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.graph.markers import CACHES
from rope_deploy.graph.passes.library_pass import refusing


class MergeEqualPass(ir.passes.InPlacePass):
    """Makes equal constants of at most `limit` elements one, then equal nodes.

    Requires that constants are initializers. Ensures that no two nodes do the same with the same values. Tables of
    rotations stay apart: two rotations may have equal ones, and a manifest names the tables of each.
    Changes nothing where all constants and nodes differ.
    """

    def __init__(self, limit: int):
        self._limit = limit

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        known = model.graph.initializers
        kept = {name: known.pop(name) for name in list(known) if name.endswith(CACHES)}
        with refusing("Its constants cannot be compared"):
            constants = common.DeduplicateInitializersPass(size_limit=self._limit)(model)
        known.update(kept)
        with refusing("Its nodes cannot be compared"):
            nodes = common.CommonSubexpressionEliminationPass()(model)
        return ir.passes.PassResult(model, constants.modified or nodes.modified)
