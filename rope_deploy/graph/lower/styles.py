"""The styles in which a rotation can be written. A new style is a file beside this one and a record here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rope_deploy.errors import UsageError
from rope_deploy.graph.lower.contrib import lower_to_contrib
from rope_deploy.graph.lower.lowered_site import LoweredSite
from rope_deploy.graph.lower.onnx import lower_to_onnx
from rope_deploy.graph.lower.plugin import lower_to_plugin
from rope_deploy.graph.lower.tables import lower_to_tables
from rope_deploy.graph.lower.task import LoweringTask
from rope_deploy.graph.operators import ROTARY_EMBEDDING
from rope_deploy.graph.passes.sequences import OPERATORS_OPSET
from rope_deploy.graph.passes.set_opset import OLDEST, require_known

# The oldest opset that is written unless another is asked for: older ones lack forms that most models need.
USUAL_OPSET = 18


@dataclass(frozen=True)
class Style:
    """One style. `lower` replaces all markers of a graph.

    `oldest_opset` is the first that a graph of this style can have; `since` names the operator that begins there.
    `reason` is why to choose it, `cannot` what its graphs cannot do, each in one sentence.
    """

    name: str
    lower: Callable[[LoweringTask], list[LoweredSite]]
    reason: str
    cannot: str = ""
    oldest_opset: int = OLDEST
    since: str = ""

    @property
    def usual_opset(self) -> int:
        """The opset to begin with where none is asked for."""
        return max(self.oldest_opset, USUAL_OPSET)


STYLES: Mapping[str, Style] = {
    style.name: style
    for style in (
        Style(
            "tables",
            lower_to_tables,
            reason="Standard operators of any opset: it runs everywhere.",
        ),
        Style(
            "onnx",
            lower_to_onnx,
            reason="The standard operator RotaryEmbedding: one node a site, for runtimes that have a kernel for it.",
            cannot="It needs a runtime that knows opset 23.",
            oldest_opset=OPERATORS_OPSET,
            since=ROTARY_EMBEDDING,
        ),
        Style(
            "contrib",
            lower_to_contrib,
            reason="ONNX Runtime's own operators: attention, rotation and cache in one node.",
            cannot="It runs in ONNX Runtime only, and a fused attention takes no left padding.",
        ),
        Style(
            "plugin",
            lower_to_plugin,
            reason="A function of standard operators that TensorRT replaces by the plugin of this project.",
            cannot="Without the plugin it is as fast as its body of standard operators.",
        ),
    )
}


def style_named(name: str) -> Style:
    """The style `name`. Raises UsageError if there is none."""
    if name not in STYLES:
        raise UsageError(f"Unknown style {name!r}.", exists=f"Known: {', '.join(STYLES)}.")
    return STYLES[name]


def require_opset(style: str, opset: int | None) -> None:
    """Raise UsageError for an unknown style, or for an opset that no graph of that style can have."""
    found = style_named(style)
    if opset is None:
        return
    require_known(opset)
    if opset < found.oldest_opset:
        raise UsageError(
            f"Style {style} needs opset {found.oldest_opset}, where {found.since} begins; {opset} was asked.",
            todo="Use --style tables for older opsets.",
        )
