"""Style onnx: the standard operator RotaryEmbedding (opset 23) for each site."""

from __future__ import annotations

from rope_deploy.graph.lower.lowered_site import LoweredSite
from rope_deploy.graph.lower.rotary_operator import lower_to_operator
from rope_deploy.graph.lower.task import LoweringTask
from rope_deploy.graph.rotating_operators import STANDARD


def lower_to_onnx(task: LoweringTask) -> list[LoweredSite]:
    """Replace every marker of `task` by RotaryEmbedding."""
    return [lower_to_operator(site, task.rows, STANDARD) for site in task.sites()]
