"""What writes each style of `rope_deploy.styles`: one function, in a file named after the style."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rope_deploy.errors import UsageError
from rope_deploy.graph.lower.contrib import lower_to_contrib
from rope_deploy.graph.lower.lowered_site import LoweredSite
from rope_deploy.graph.lower.onnx import lower_to_onnx
from rope_deploy.graph.lower.plugin import lower_to_plugin
from rope_deploy.graph.lower.tables import lower_to_tables
from rope_deploy.graph.lower.task import LoweringTask
from rope_deploy.graph.passes.set_opset import require_known
from rope_deploy.styles import STYLES, opset_needed

# The oldest opset that is written unless another is asked for: older ones lack forms that most models need.
USUAL_OPSET = 18

# Each function replaces all markers of a graph.
LOWERINGS: Mapping[str, Callable[[LoweringTask], list[LoweredSite]]] = {
    "tables": lower_to_tables,
    "onnx": lower_to_onnx,
    "contrib": lower_to_contrib,
    "plugin": lower_to_plugin,
}


def usual_opset(style: str) -> int:
    """The opset to begin with where none is asked for."""
    return max(STYLES[style].oldest_opset or USUAL_OPSET, USUAL_OPSET)


def require_opset(style: str, opset: int | None) -> None:
    """Raise UsageError for an unknown style, or for an opset that no graph of that style can have."""
    if style not in STYLES:
        raise UsageError(f"Unknown style {style!r}.", exists=f"Known: {', '.join(STYLES)}.")
    if opset is None:
        return
    require_known(opset)
    if (oldest := opset_needed(style, opset)) is not None:
        raise UsageError(
            f"Style {style} needs opset {oldest}, where RotaryEmbedding begins; {opset} was asked.",
            todo="Use --style tables for older opsets.",
        )
