"""Rewrite: somebody else's ONNX file with its rotations in another style; everything else stays what it was."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from rope_deploy.artifact import disk_errors, refuse_existing
from rope_deploy.errors import UsageError
from rope_deploy.graph.dependence import POSITION_INPUT, Dependence, dependences
from rope_deploy.graph.evaluate import Trig, evaluate
from rope_deploy.graph.foreign import read_foreign
from rope_deploy.graph.lower import OPERATORS_OPSET, WIDEST_OPSET, lower
from rope_deploy.graph.raising import RaisedRotation, raise_rotations
from rope_deploy.graph.rotation import SIZES, dummy_inputs
from rope_deploy.graph.save import Summary, save


@dataclass(frozen=True)
class Rewritten:
    """A written file: how its rotations are now, and the tables found in it (to be compared with a configuration)."""

    path: Path
    style: str
    opset: int
    sites: int
    rotations: tuple[RaisedRotation, ...]
    unmatched: tuple[str, ...]
    summary: Summary


def rewrite_file(
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
    progress: Callable[[str], None] = lambda step: None,
) -> Rewritten:
    """Write `source` in `style` to `target`, its weights to `target`.data beside it; both appear at once or not at all.

    `max_position` is the number of rows of the tables: by default those of the file's own tables, or, where it has
    none, `stated_position`, what the model's configuration says. `opset` defaults to the file's, or the first that
    the style needs. `cos` and `sin` as in `raise_rotations`.

    Raises UsageError (what is asked does not fit, or `target` exists without `force`) and UnmatchedRotation.
    """
    source, target = Path(source), Path(target)
    refuse_existing(target, force=force)
    progress(f"Reading {source}")
    model = read_foreign(source, newest=opset or OPERATORS_OPSET)
    limit = _limit(model, source, max_position, stated_position)
    progress("Finding the rotations")
    raised = raise_rotations(model, limit, cos=cos, sin=sin, allow_unmatched=allow_unmatched)
    written_in = max(model.graph.opset_imports[""], OPERATORS_OPSET if style == "onnx" else WIDEST_OPSET)
    lowered = lower(raised, style, opset=opset or written_in, fused_attention=False)
    progress(f"Writing {target}")
    summary = _write(lowered.model, target)
    return Rewritten(target, style, lowered.opset, len(lowered.sites), raised.rotations, raised.unmatched, summary)


def _limit(model: ir.Model, source: Path, asked: int | None, stated: int | None) -> int:
    """How many rows the tables get; the file's own tables, if it has any, cannot be made longer."""
    marks = dependences(model.graph)
    gathers = [node for node in model.graph if node.op_type == "Gather" and node.inputs[0].const_value is not None]
    of_positions = [node for node in gathers if marks.get(node.inputs[1]) == Dependence.POSITION]
    rows = min((_positions_of(node, model.graph) for node in of_positions), default=None)
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
    return limit


def _positions_of(gather: ir.Node, graph: ir.Graph) -> int:
    """For how many positions from 0 on the constant table of `gather` has a row of numbers."""
    table = gather.inputs[0].const_value
    poisoned = bool(np.isnan(table.numpy()[-1].astype(np.float32)).any())  # ours end in a row of NaN
    rows = table.shape[0] - poisoned
    positions = np.arange(rows + 1)
    inputs = dummy_inputs(graph, {**SIZES, "batch": 1, "sequence": rows + 1, "total": rows + 1 + SIZES["past"]})
    inputs = {v: positions[None].astype(a.dtype) if v.name == POSITION_INPUT else a for v, a in inputs.items()}
    (found,) = evaluate([gather.inputs[1]], inputs)
    inside = (found.reshape(-1) >= 0) & (found.reshape(-1) < rows)
    return int(np.argmin(inside))


def _write(model: ir.Model, target: Path) -> Summary:
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp") as folder:
            temporary = Path(folder)
            summary = save(model, temporary / target.name, f"{target.name}.data")
            for name in (f"{target.name}.data", target.name):  # the weights first: a graph never lacks its own
                if (temporary / name).exists():
                    os.replace(temporary / name, target.parent / name)
    return summary
