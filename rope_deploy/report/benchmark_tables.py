"""Arrange what a benchmark found in two tables of plain text, which terminal, Markdown and HTML show alike."""

from __future__ import annotations

from collections.abc import Sequence

from rope_deploy.results import wording
from rope_deploy.results.records import ContestantRecord, LatencyRecord, Report

Table = tuple[list[str], list[list[str]]]  # the heading, and rows of its length

TIMING_HEAD = ["Runtime", "Style", "Workload", "Median", "10 to 90 %", "Tokens/s", "Ratio", "Ratio's noise", "Rotation"]
MEMORY_HEAD = ["Runtime", "Style", "Most memory", "At the end", "Before opening", "ONNX Runtime's arena", "Remarks"]
# Shown with the second table.
MEMORY_EXPLANATION = (
    "Memory of a process that opened this contestant alone and ran each workload once; the most of it includes "
    "loading, and all of it Python and its libraries."
)


def timing_table(report: Report) -> Table:
    """A row for each timing. "Rotation" is the rotation's share of the time in the nodes."""
    return TIMING_HEAD, [_timing_row(record) for record in report.latencies]


def memory_table(report: Report) -> Table:
    """The memory of each contestant, and who was left out. Contestants of whom nothing is recorded have no row."""
    shown = [record for record in report.contestants if record.verdict != "passed" or record.peak_bytes or record.note]
    return MEMORY_HEAD, [_memory_row(record) for record in shown]


def narrow_table(table: Table, dropped: Sequence[str]) -> Table:
    """`table` for 80 columns: runtime and style as one label, without `dropped` and what is empty in every row."""
    head, body = table
    kept = [i for i in range(2, len(head)) if head[i] not in dropped and any(row[i] for row in body)]
    labels = [" ".join(filter(None, (row[1], row[0] if not row[1] else ""))) for row in body]
    if len({row[0] for row in body if row[1]}) > 1:
        labels = [" · ".join(filter(None, row[1::-1])) for row in body]
    return ["", *(head[i] for i in kept)], [[label, *(row[i] for i in kept)] for label, row in zip(labels, body)]


def remarks(report: Report) -> list[tuple[str, str]]:
    """(remark, contestants it holds for), each remark once."""
    by_remark: dict[str, list[str]] = {}
    for record in report.contestants:
        if record.note:
            by_remark.setdefault(wording.line(record.note), []).append(wording.target(record.style, record.runtime))
    return [(remark, ", ".join(who)) for remark, who in by_remark.items()]


def left_out(report: Report) -> list[tuple[str, str]]:
    """(contestant, reason) for each contestant that could not be timed here."""
    return [
        (wording.target(record.style, record.runtime), wording.line(record.message) or "no reason was recorded")
        for record in report.contestants
        if record.verdict != "passed"
    ]


def _timing_row(record: LatencyRecord) -> list[str]:
    low, high = record.ratio_low, record.ratio_high
    reference = record.ratio == low == high == 1
    return [
        wording.runtime(record.runtime),
        wording.line(record.style),
        wording.line(record.workload),
        wording.milliseconds(record.median_ms),
        f"{wording.milliseconds(record.p10_ms)} to {wording.milliseconds(record.p90_ms)}",
        wording.number(record.tokens_per_second) if record.median_ms > 0 else "",
        wording.ratio(record.ratio),
        f"{low:.2f} to {high:.2f}" if low is not None and high is not None and not reference else "",
        "" if record.rotation_share is None else f"{100 * record.rotation_share:.1f} %",
    ]


def _memory_row(record: ContestantRecord) -> list[str]:
    sizes = (record.peak_bytes, record.resident_bytes, record.before_bytes, record.arena_bytes)
    left = f"Left out: {wording.line(record.message)}" if record.verdict != "passed" else ""
    return [
        wording.runtime(record.runtime),
        wording.line(record.style),
        *("" if size is None else wording.size(size) for size in sizes),
        " ".join(part for part in (left, wording.line(record.note)) if part),
    ]
