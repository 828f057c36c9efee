"""Lower: every marker of a raised graph becomes what the asked style writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.graph.lower.cache_rows import Rows
from rope_deploy.graph.lower.lowered_site import LoweredSite
from rope_deploy.graph.lower.lowerings import LOWERINGS, require_opset, usual_opset
from rope_deploy.graph.lower.task import LoweringTask
from rope_deploy.graph.markers import Raised
from rope_deploy.graph.passes.sequences import after_lowering, as_written, before_lowering, run
from rope_deploy.graph.passes.set_opset import oldest_fitting


@dataclass(frozen=True)
class Lowered:
    """A graph in one style. `fused` is True if an attention took its rotation inside."""

    model: ir.Model
    style: str
    opset: int
    sites: tuple[LoweredSite, ...]
    fused: bool


def lower_rotations(
    raised: Raised,
    style: str,
    *,
    opset: int | None = None,
    fused_attention: bool = True,
    implicit_positions: bool = False,
) -> Lowered:
    """A copy of `raised` in `style`; weights are shared with the original, not copied.

    `implicit_positions` makes the graph count its positions itself and take no `position_ids`, as encoders do.
    `opset` defaults to the oldest, from the style's usual one on, that has the model's other operators. Raises
    UsageError for an unknown style or an opset that lacks something.
    """
    require_opset(style, opset)
    raised = replace(raised, model=raised.model.clone())
    model, begin = raised.model, opset or usual_opset(style)
    run(model, before_lowering(begin))
    sites = LOWERINGS[style](LoweringTask(raised, Rows(model.graph), begin, fused_attention))
    common.RemoveUnusedNodesPass()(model)
    run(model, after_lowering(begin, implicit_positions=implicit_positions))
    _name_sites(sites)
    written = opset or oldest_fitting(model, begin)
    run(model, as_written(written))
    return Lowered(model, style, written, tuple(sites), any(site.output is None for site in sites))


def _name_sites(sites: Sequence[LoweredSite]) -> None:
    """Give the ends of sites names that a person can find in a viewer.

    rope.7.q.in and rope.7.q.out; rope.7.q.1.in of an indexer. One tensor may enter two sites; each name is given once.
    """
    given: dict[str, ir.Value] = {}
    for site in sites:
        for value, end in ((site.input, "in"), (site.output, "out")):
            occurrence = [str(site.occurrence)] if site.occurrence else []
            name = ".".join(("rope", str(site.layer), site.role, *occurrence, end))
            if value is None or value.is_graph_input() or value.is_graph_output() or value in given.values():
                continue
            while name in given:
                name += "'"
            given[name] = value
            value.name = name
