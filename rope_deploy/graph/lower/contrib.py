"""Style contrib: ONNX Runtime's operators. A whole attention becomes GroupQueryAttention where that can express it,
every other site com.microsoft.RotaryEmbedding."""

from __future__ import annotations

from rope_deploy.graph.lower.group_query_attention import fuse_attentions
from rope_deploy.graph.lower.lowered_site import LoweredSite
from rope_deploy.graph.lower.rotary_operator import lower_to_operator
from rope_deploy.graph.lower.task import LoweringTask
from rope_deploy.graph.rotating_operators import CONTRIB


def lower_to_contrib(task: LoweringTask) -> list[LoweredSite]:
    """Replace every marker of `task`, fused attentions first."""
    task.model.graph.opset_imports[CONTRIB] = 1
    fused = fuse_attentions(task.model, task.raised.rotations, task.rows) if task.fused_attention else []
    return fused + [lower_to_operator(site, task.rows, CONTRIB) for site in task.sites()]
