"""Judge the positions of a file, and hazards: positions it counts itself, a short table, angles made at run time."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from rope_deploy.audit.collect_findings import Findings, roles_and_layers
from rope_deploy.audit.expected_rotations import Expected
from rope_deploy.audit.table_tolerances import COUNTED
from rope_deploy.graph.reading import FoundTable, Reading, Unreadable

PAST = 5  # tokens before the call in which a graph must go on counting


def judge_positions(reading: Reading, expected: Expected | None, findings: Findings) -> None:
    """One record: positions come from position_ids or are counted on after a cache, and every position has a row."""
    began, before = time.perf_counter(), len(findings.diagnoses)
    for number, table in enumerate(reading.tables):
        sites = reading.sites_of(number)
        where, layers = f"{table.name}, {roles_and_layers(sites)}", {site.layer for site in sites}
        if table.positions == "counted":
            _counted(reading, table, where, layers, findings)
        if expected is not None and table.rows is not None and table.rows < expected.max_position:
            text = f"It has rows for {table.rows} positions; {expected.source} has {expected.max_position}."
            findings.mistake("RD207", text, where, layers=layers)
    found = findings.diagnoses[before:]
    message = " ".join(f"{one.code}: {one.explanation}" for one in found) or _positions_text(reading)
    branch = f" ({reading.branch})" if reading.branch else ""
    detail = "where tokens stand, and how far the tables reach"
    findings.record(f"positions{branch}", detail, "failed" if found else "passed", message, began)
    if expected is not None and expected.sections and reading.position_axes == 1:
        text = f"position_ids has one axis, M-RoPE {len(expected.sections)}: right for text, wrong for images."
        findings.hazard("RD210", text, "position_ids")


def judge_precision(reading: Reading, findings: Findings) -> None:
    """Hazards in how the tables are made."""
    for number, table in enumerate(reading.tables):
        where, layers = f"{table.name}", {site.layer for site in reading.sites_of(number)}
        if table.product:
            text = f"Angles go through {table.product}, a matrix product that a GPU may run in TF32."
            findings.hazard("RD502", text, where, layers)
    nodes = {name for table in reading.tables for name in table.nodes}
    if nodes:
        text = f"{len(nodes)} Cos and Sin run for every call; a table would replace them."
        layers = {s.layer for n, table in enumerate(reading.tables) if table.nodes for s in reading.sites_of(n)}
        findings.hazard("RD605", text, ", ".join(sorted(nodes)[:4]), layers)


def _counted(reading: Reading, table: FoundTable, where: str, layers: set[int], findings: Findings) -> None:
    """A graph that counts its tokens itself must go on counting after a past."""
    if reading.position_axes is not None:
        findings.mistake("RD203", "The rotation does not depend on position_ids.", where, layers=layers)
        return
    if not reading.cached:
        findings.hazard("RD604", "Without position_ids, tokens count from 0 in every row, padding included.", where)
        return
    tokens = np.arange(PAST, PAST + 3)
    try:
        fresh, _ = table.at(np.arange(PAST + 3), PAST + 3)
        later, _ = table.at(tokens, PAST + 3)
    except Unreadable:  # counted as not going on, which is the mistake below
        later, fresh = np.zeros(0), np.zeros(0)
    if later.shape != (len(tokens), table.width) or not np.allclose(later, fresh[tokens], atol=COUNTED):
        text = "There is no position_ids, and tokens after a cache do not go on counting from it."
        findings.mistake("RD604", text, where, layers=layers)
    else:
        text = "Without position_ids, tokens are counted from the cache: padding takes part in it."
        findings.hazard("RD604", text, where, layers)


def _positions_text(reading: Reading) -> str:
    kinds = {table.positions for table in reading.tables}
    text = {"input": "from position_ids", "lengths": "from the length of each sequence", "counted": "counted"}
    rows = sorted({table.rows for table in reading.tables if table.rows is not None})
    reach = f"; tables for {' and '.join(map(str, rows))} positions" if rows else "; computed for every position"
    return f"Positions come {', '.join(text[kind] for kind in sorted(kinds))}{reach}." if kinds else "No tables."


def skipped_notes(readings: Sequence[Reading], findings: Findings) -> None:
    """Notes on what could not be read, and on files with several branches, each of which was audited."""
    branches = [reading.branch for reading in readings if reading.branch]
    if branches:
        findings.notes.append(f"The file has {len(readings)} ways through it, each audited: {'; '.join(branches)}.")
    for text in dict.fromkeys(text for reading in readings for text in reading.skipped):
        findings.notes.append(text)
