"""Rewrite: write the rotations of an existing ONNX file in another style; everything else stays what it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from rope_deploy.artifact import new_graph, refuse_existing
from rope_deploy.errors import UsageError
from rope_deploy.graph.analysis.dependence import POSITION_INPUT, Dependence, dependences
from rope_deploy.graph.analysis.dummy_inputs import SIZES, dummy_inputs
from rope_deploy.graph.analysis.evaluate import Trig, evaluate
from rope_deploy.graph.analysis.result_size import require_tables
from rope_deploy.graph.lower.lower_rotations import lower_rotations
from rope_deploy.graph.lower.lowerings import usual_opset
from rope_deploy.graph.markers import Raised, RaisedRotation
from rope_deploy.graph.passes.sequences import OPERATORS_OPSET, after_rewrite, run
from rope_deploy.graph.raising.raise_rotations import raise_rotations
from rope_deploy.graph.reading.prepare_foreign_file import read_foreign
from rope_deploy.graph.save import Summary, save

USUAL_WIDTH = 128  # of a head, before the rotations are found


@dataclass(frozen=True)
class Rewritten:
    """A written file: its style, and the rotations found in it with their tables."""

    path: Path
    style: str
    opset: int
    sites: int
    rotations: tuple[RaisedRotation, ...]
    unmatched: tuple[str, ...]
    summary: Summary


def rewrite_graph(
    source: Path,
    target: Path,
    style: str,
    *,
    opset: int | None = None,
    max_position: int | None = None,
    stated_position: int | None = None,
    cos: Trig | None = None,
    sin: Trig | None = None,
    allow_unmatched: bool = False,
    force: bool = False,
    revise: Callable[[Raised], Raised] = lambda raised: raised,
    before: Callable[[Path], None] = lambda path: None,
    progress: Callable[[str], None] = lambda step: None,
) -> Rewritten:
    """Write `source` in `style` to `target`, its weights to `target`.HASH.data beside it; both at once or not at all.

    `max_position` is the number of rows of the tables: by default those of the file's own tables, or, where it has
    none, `stated_position`, what the model's configuration says. `opset` defaults to the file's, or the first that
    the style needs. `cos` and `sin` as in `raise_rotations`.

    `revise` is called with the rotations found, and returns those to write: it may give them other tables. `before` is
    called with the path of the finished file under its temporary name. What either raises leaves `target` as it was.

    Raises UsageError (what is asked does not fit, or `target` exists without `force`) and UnmatchedRotation.
    """
    source, target = Path(source), Path(target)
    refuse_existing(target, force=force)
    if not force:
        refuse_existing(target.with_name(f"{target.name}.data"), force=False)  # where others keep a file's weights
    progress(f"Reading {source}")
    foreign = read_foreign(source, newest=opset or OPERATORS_OPSET)
    limit = _limit(foreign.model, source, max_position, stated_position)
    progress("Finding the rotations")
    raised = revise(raise_rotations(foreign.model, limit, cos=cos, sin=sin, allow_unmatched=allow_unmatched))
    written_in = max(foreign.model.graph.opset_imports[""], usual_opset(style))
    lowered = lower_rotations(raised, style, opset=opset or written_in, fused_attention=False)
    run(lowered.model, after_rewrite(foreign.declared))
    progress(f"Writing {target}")
    summary = _write(lowered.model, target, force=force, before=before)
    return Rewritten(target, style, lowered.opset, len(lowered.sites), raised.rotations, raised.unmatched, summary)


def _limit(model: ir.Model, source: Path, asked: int | None, stated: int | None) -> int:
    """The number of rows of the tables. The file's own tables, if it has any, cannot be made longer."""
    marks = dependences(model.graph)
    gathers = [node for node in model.graph if node.op_type == "Gather" and _is_table(node.inputs[0].const_value)]
    of_positions = [node for node in gathers if marks.get(node.inputs[1]) == Dependence.POSITION]
    served = (_positions_of(node, model.graph) for node in of_positions)
    rows = min((count for count in served if count is not None), default=None)
    limit = asked or rows or stated
    if limit is None:
        raise UsageError(
            f"{source} computes its angles at run time: how long should its tables be?",
            todo="Give --max-position N, or --config with the model's config.json.",
        )
    if rows is not None and limit > rows:
        raise UsageError(
            f"{source} has a table of {rows} positions; {limit} were asked for.",
            todo="Export the model again for more: the file does not say how its table goes on.",
        )
    require_tables(limit, USUAL_WIDTH, 1, "--max-position" if asked else "as the configuration says")
    return limit


def _is_table(tensor: ir.TensorProtocol | None) -> bool:
    return tensor is not None and tensor.dtype.is_floating_point() and len(tensor.shape) > 0 and tensor.shape[0] > 0


def _positions_of(gather: ir.Node, graph: ir.Graph) -> int | None:
    """The number of positions from 0 on for which the constant table of `gather` has a row of numbers.

    None if some row also serves the position after the last one, as where a graph clamps positions.
    """
    table = gather.inputs[0].const_value
    guarded = bool(np.isnan(table.numpy()[-1].astype(np.float32)).any())  # ours end in a row of NaN
    rows = table.shape[0] - guarded
    positions = np.arange(rows + 1)
    inputs = dummy_inputs(graph, {**SIZES, "batch": 1, "sequence": rows + 1, "total": rows + 1 + SIZES["past"]})
    inputs = {v: positions[None].astype(a.dtype) if v.name == POSITION_INPUT else a for v, a in inputs.items()}
    (found,) = evaluate([gather.inputs[1]], inputs)
    inside = (found.reshape(-1) >= 0) & (found.reshape(-1) < rows)
    return None if inside.all() else int(np.argmin(inside))


def _write(
    model: ir.Model, target: Path, *, force: bool = False, before: Callable[[Path], None] = lambda unfinished: None
) -> Summary:
    """Write graph and weights under temporary names and then make them current.

    `before` is called with the path of the unfinished graph; if it raises, nothing becomes current.
    """
    with new_graph(target, force=force) as unfinished:
        summary = save(model, unfinished)
        before(unfinished)
    return summary
