"""Tell which axes of a graph's inputs are batch, sequence, past and total."""

from __future__ import annotations

import onnx_ir as ir

from rope_deploy.graph.analysis.dependence import POSITION_INPUT

TOKEN_INPUTS = ("input_ids", "inputs_embeds")


def axes_of(value: ir.Value) -> dict[int, str]:
    """Which axes of an input have a name of ours."""
    name, rank = value.name, len(value.shape) if value.shape is not None else 0
    if name == POSITION_INPUT and rank == 3:  # M-RoPE: one position for each axis of an image
        return {1: "batch", 2: "sequence"}
    if name in (*TOKEN_INPUTS, POSITION_INPUT) and rank >= 2:
        return {0: "batch", 1: "sequence"}
    if name == "attention_mask" and rank == 2:
        return {0: "batch", 1: "total"}
    if "past" in name and rank == 4:
        return {0: "batch", 2: "past"}
    return {}
