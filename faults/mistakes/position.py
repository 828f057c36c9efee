"""Where a token stands: RD201 to RD207.

Faults of single positions (off by n, wrapped, clamped) sit in the table, which every style reads alike. Those that
look at the rest of the call (past, padding, other rows) sit between position_ids and the row index.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from faults.artifact_graph import Graph
from faults.mistakes.fault import Fault, RotationChange, at_sites
from faults.plant_rotation import AppliedRotation, Moved, Sound
from rope_deploy.rope import cos_sin


def at(change: Callable[[np.ndarray], np.ndarray]) -> RotationChange:
    """Each row of the table holds the angles of another position. Of rules of the length there are many tables."""

    def edit(sound: Sound) -> AppliedRotation | None:
        if sound.rotation.cos_sin != "table":
            return None
        return sound.stacked([cos_sin(sound.spec, change(np.arange(rows)), seq_len=n) for rows, n in sound.lengths])

    return edit


def off_by(number: int) -> RotationChange:
    return at(lambda positions: positions + number)


def wrapped(share: float) -> RotationChange:
    return at(lambda positions: positions % int(len(positions) * share))


def clamped(share: float) -> RotationChange:
    """The table ends early; whoever asks for more gets its last row."""
    return at(lambda positions: np.minimum(positions, int(len(positions) * share) - 1))


def clamped_at(rows: int) -> RotationChange:
    """The table holds what was traced, and nothing more."""
    return at(lambda positions: np.minimum(positions, rows - 1))


def cut(share: float) -> RotationChange:
    """The table ends early; whoever asks for more gets NaN, as every style does beyond its table."""

    def edit(sound: Sound) -> AppliedRotation | None:
        if sound.rotation.cos_sin != "table":
            return None
        cos, sin = sound.applied.cos.copy(), sound.applied.sin.copy()
        end = int(len(cos) * share)
        cos[end:], sin[end:] = np.nan, np.nan
        return sound.applied.cast(cos, sin)

    return edit


def moved(change: Moved, *, padded: bool = False) -> RotationChange:
    """Tokens stand elsewhere, in graphs that are told positions. `padded`: only where one may stand behind padding."""

    def edit(sound: Sound) -> AppliedRotation | None:
        manifest, limits = sound.graph.manifest, sound.graph.manifest.limits
        told = any(info.name == "position_ids" for info in manifest.inputs)
        if not told or (padded and not (limits.left_padding or limits.padded_past)):
            return None
        return replace(sound.applied, moved=change)

    return edit


def plus_one(graph: Graph, positions: str) -> str:
    """position_ids + 1."""
    return graph.op("Add", positions, graph.ints(1))


def from_zero(graph: Graph, positions: str) -> str:
    """0, 1, 2 … in every call."""
    return _spread(graph, _count(graph, graph.constant(np.array(0)), _tokens(graph)), positions)


def restarted(graph: Graph, positions: str) -> str:
    """position_ids in a prompt; 0, 1, 2 … again in every call behind a cache."""
    past = graph.op("Sub", _columns(graph), _tokens(graph))
    prompt = graph.op("Equal", past, graph.constant(np.array(0)))
    return graph.op("Where", prompt, positions, from_zero(graph, positions))


def minus_past(graph: Graph, positions: str) -> str:
    """position_ids less the tokens in the cache: right in a prompt, from 0 again behind it."""
    past = graph.op("Sub", _columns(graph), _tokens(graph))
    return graph.op("Sub", positions, past)


def column(graph: Graph, positions: str) -> str:
    """The column of the mask that a token stands in, whatever position_ids say."""
    total, tokens = _columns(graph), _tokens(graph)
    return _spread(graph, _count(graph, graph.op("Sub", total, tokens), total), positions)


def first_row(graph: Graph, positions: str) -> str:
    """Every row of the batch stands where its first one does."""
    return _spread(graph, graph.op("Gather", positions, graph.ints(0), axis=0), positions)


def next_row(graph: Graph, positions: str) -> str:
    """Every row stands where the next one does, the last where the first does."""
    size = graph.op("Squeeze", graph.op("Shape", positions, start=0, end=1), graph.ints(0))
    one = graph.constant(np.array(1))
    following = graph.op("Mod", _count(graph, one, graph.op("Add", size, one)), size)
    return graph.op("Gather", positions, following, axis=0)


def shifted_by_padding(graph: Graph, positions: str) -> str:
    """Padding before a token counts as tokens."""
    padding = graph.op("Sub", graph.ints(1), "attention_mask")
    before = graph.op("CumSum", padding, graph.constant(np.array(1)))
    start = graph.op("Sub", graph.op("Shape", "attention_mask", start=1, end=2), _tokens(graph))
    new = graph.op("Slice", before, start, graph.op("Shape", "attention_mask", start=1, end=2), graph.ints(1))
    return graph.op("Add", positions, new)


def _tokens(graph: Graph) -> str:
    return graph.op("Squeeze", graph.op("Shape", "input_ids", start=1, end=2), graph.ints(0))


def _columns(graph: Graph) -> str:
    return graph.op("Squeeze", graph.op("Shape", "attention_mask", start=1, end=2), graph.ints(0))


def _count(graph: Graph, start: str, end: str) -> str:
    return graph.op("Range", start, end, graph.constant(np.array(1)))


def _spread(graph: Graph, values: str, like: str) -> str:
    return graph.op("Expand", values, graph.op("Shape", like))


POSITION = (
    Fault("off-by-plus-1", "RD201", at_sites(off_by(1))),
    Fault("off-by-minus-1", "RD201", at_sites(off_by(-1))),
    Fault("off-by-plus-7", "RD201", at_sites(off_by(7))),
    Fault("off-by-plus-7-k", "RD201", at_sites(off_by(7), "k")),
    Fault("index-plus-1", "RD201", at_sites(moved(plus_one))),
    Fault("restarted", "RD202", at_sites(moved(restarted))),
    Fault("minus-past", "RD202", at_sites(moved(minus_past))),
    Fault("from-zero", "RD203", at_sites(moved(from_zero))),
    Fault("column", "RD203", at_sites(moved(column))),
    Fault("first-row", "RD204", at_sites(moved(first_row))),
    Fault("next-row", "RD204", at_sites(moved(next_row))),
    Fault("shifted-by-padding", "RD205", at_sites(moved(shifted_by_padding, padded=True))),
    Fault("wrapped-half", "RD206", at_sites(wrapped(1 / 2))),
    Fault("wrapped-late", "RD206", at_sites(wrapped(15 / 16))),
    Fault("clamped-half", "RD207", at_sites(clamped(1 / 2))),
    Fault("clamped-late", "RD207", at_sites(clamped(31 / 32))),
    Fault("clamped-at-trace", "RD207", at_sites(clamped_at(8))),
    Fault("cut-half", "RD207", at_sites(cut(1 / 2)), hides=True),
)
