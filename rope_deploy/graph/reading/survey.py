"""Summarise what an ONNX file rotates, in which form, and what deserves a second look: a view of its reading.

`inspect` and the gates show this, `check --audit` judges the reading itself: both count what `read_rotations` found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rope_deploy.graph.analysis.evaluate import HALF
from rope_deploy.graph.reading.read_rotations import read_rotations
from rope_deploy.graph.reading.records import Reading


@dataclass(frozen=True)
class Survey:
    """`forms`: how many sites have which form; `tables`: names of the cos and sin tables that they read; `hazards`: one
    sentence each. Of a file with several branches: the most that any branch has, the tables and hazards of all."""

    opset: int
    nodes: int
    inputs: tuple[str, ...]
    forms: dict[str, int]
    runtime_cos_sin: int
    hazards: tuple[str, ...]
    tables: tuple[str, ...] = ()


def survey(path: Path) -> Survey:
    """Read the graph of `path`, whose weights may be missing. Raises UsageError if it is not a sound ONNX file."""
    return survey_of(read_rotations(path, without_weights=True))


def survey_of(readings: Sequence[Reading]) -> Survey:
    """The summary of the readings of one file."""
    forms: Counter[str] = Counter()
    for reading in readings:
        forms |= Counter(site.form for site in reading.sites)
    return Survey(
        opset=readings[0].opset,
        nodes=max(reading.nodes for reading in readings),
        inputs=readings[0].inputs,
        forms=dict(forms),
        runtime_cos_sin=max(reading.trigonometric for reading in readings),
        hazards=tuple(dict.fromkeys(text for reading in readings for text in _hazards(reading))),
        tables=tuple(sorted({name for reading in readings for table in reading.tables for name in table.constants})),
    )


def _hazards(reading: Reading) -> Iterator[str]:
    if reading.sites and reading.position_axes is None:
        yield "There is no position_ids input: positions are whatever the graph counts, also with padding or a cache."
    if not reading.sites and reading.trigonometric:
        yield "Cos and Sin are computed, but no rotation was recognised."
    if reading.trigonometric > 2:
        yield f"{reading.trigonometric} Cos and Sin nodes run for every call; a table would replace them all."
    elif reading.trigonometric:
        yield "Cos and Sin run for every call; unless the rule depends on its length, a table would replace them."
    half = HALF.values()
    if any(table.precision.angles in half for table in reading.tables):
        yield "Angles are computed in half precision: positions beyond a few hundred are wrong."
    if any(table.product for table in reading.tables):
        yield "Angles go through a matrix product, which a GPU may run in TF32: long positions would be wrong."
    if any(table.stored and table.precision.table in half for table in reading.tables):
        yield "The table is in half precision: each entry is rounded to 8 or 11 bits."
    if reading.unread:
        count, first = len(reading.unread), reading.unread[0]
        parts = "1 part looks" if count == 1 else f"{count} parts look"
        branch = f" ({reading.branch})" if reading.branch else ""
        yield f"{parts} like a rotation and cannot be read{branch}; the first, {first.node}: {first.reason}"
    yield from reading.skipped
