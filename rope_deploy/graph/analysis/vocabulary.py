"""Find how many token ids a graph can take: the rows of the table that its tokens are looked up in.

A configuration may state more or less than that: embeddings are padded, cut or extended, and a user's own model states
nothing. What is added to an id before it is looked up counts too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from rope_deploy.artifact import MODEL_NAME, Manifest
from rope_deploy.graph.analysis.dependence import POSITION_INPUT
from rope_deploy.graph.analysis.evaluate import NotEvaluable, evaluate
from rope_deploy.graph.io import read_model

# Each element of the result comes from one token. (A sum over tokens, as positions are counted by, is none.)
ELEMENTWISE = frozenset({
    "Add", "Cast", "Clip", "Concat", "Expand", "Flatten", "Identity", "Max", "Min", "Mod", "Mul", "Reshape", "Slice",
    "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
# Operators that look rows up: which inputs are the table and the indices, and the attribute with the axis.
LOOKUPS = {"Gather": (0, 1, "axis"), "GatherBlockQuantized": (0, 1, "gather_axis")}
RESULT = "logits"
FALLBACK_VOCABULARY = 2  # token ids every vocabulary has


def with_vocabulary(manifest: Manifest, folder: Path) -> Manifest:
    """`manifest` with the vocabulary of its graph, where it is known. Raises UsageError if it is no ONNX."""
    found = vocabulary(read_model(folder / MODEL_NAME, weights=False).graph)
    return manifest if found is None else replace(manifest, vocab_size=found)


def vocabulary(graph: ir.Graph) -> int | None:
    """The ids below which every token can be looked up; else the width of the logits; None where neither is known."""
    found = [rows for value in graph.inputs if _holds_tokens(value) for rows in _limits(value)]
    if found:
        return min(found)
    widths = [value.shape[-1] for value in graph.outputs if value.name == RESULT and value.shape is not None]
    return next((width for width in widths if isinstance(width, int)), None)


def _holds_tokens(value: ir.Value) -> bool:
    named = value.name == POSITION_INPUT or any(part in value.name for part in ("mask", "position", "past"))
    return not named and value.dtype in (ir.DataType.INT64, ir.DataType.INT32)


def _limits(tokens: ir.Value) -> Iterator[int]:
    """For each table that the tokens reach, how many ids it has rows for."""
    stack, seen = [tokens], {tokens}
    while stack:
        value = stack.pop()
        for node, number in value.uses():
            table, indices, axis = LOOKUPS.get(node.op_type, (None, None, ""))
            if number == indices and (rows := _rows(node.inputs[table], node, axis)) is not None:
                yield _within(tokens, value, rows)
            elif node.op_type in ELEMENTWISE and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                stack.append(node.outputs[0])


def _rows(table: ir.Value | None, node: ir.Node, axis: str) -> int | None:
    if table is None or table.shape is None or not len(table.shape):
        return None
    rows = table.shape[node.attributes[axis].as_int() if axis in node.attributes else 0]
    return rows if isinstance(rows, int) else None


def _within(tokens: ir.Value, indices: ir.Value, rows: int) -> int:
    """How many ids from 0 on become indices of a table with `rows`."""
    if indices is tokens:
        return rows
    ids = np.arange(rows + 1).reshape(1, -1).astype(tokens.dtype.numpy())
    try:
        (found,) = evaluate([indices], {tokens: ids})
    except NotEvaluable:  # nothing is known of the ids; what the embedding holds bounds them
        return rows
    if found.size != ids.size:
        return rows
    outside = np.flatnonzero((found.reshape(-1) >= rows) | (found.reshape(-1) < -rows))
    return int(outside[0]) if outside.size and outside[0] else rows
