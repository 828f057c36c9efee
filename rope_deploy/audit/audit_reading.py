"""Audit what was read from one file: its sites, positions, precision and tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rope_deploy.audit.collect_findings import Audit, Findings
from rope_deploy.audit.expected_rotations import Expected
from rope_deploy.audit.judge_positions import judge_positions, judge_precision, skipped_notes
from rope_deploy.audit.judge_sites import judge_sites, reading_text
from rope_deploy.audit.judge_tables import judge_tables
from rope_deploy.graph.reading import Reading


def audit(
    readings: Sequence[Reading], expected: Expected | None, *, style: str, fail_on: Collection[str] = ()
) -> Audit:
    """Layers, layouts, positions, precision and tables. `expected` None: by what holds for every rotation.

    `style` is what the records show the file under; `fail_on` are codes of hazards that count as mistakes.
    """
    findings = Findings(style, fail_on)
    findings.notes += expected.notes if expected is not None else ()
    for reading in readings:
        findings.notes.append(f"{style}{f' ({reading.branch})' if reading.branch else ''}: {reading_text(reading)}")
        judge_sites(reading, expected, findings)
        judge_positions(reading, expected, findings)
        judge_precision(reading, findings)
    judge_tables(readings, expected, findings)
    skipped_notes(readings, findings)
    return findings.audit()
