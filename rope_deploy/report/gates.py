"""Judge a report against the figures a run asked for. What was asked for and not measured has failed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from rope_deploy.report import words
from rope_deploy.report.records import GateRecord, Report


def with_gates(
    report: Report,
    *,
    max_logits_error: float | None = None,
    max_rotated_error: float | None = None,
    max_latency_ratio: float | None = None,
    max_artifact_bytes: int | None = None,
    max_runtime_cos_sin: int | None = None,
) -> Report:
    """`report` with one GateRecord per limit that is not None. The names are those of the [gates] table."""
    checks, exports = report.checks, report.exports
    gates = (
        _gate("max_logits_error", [(c.logits_error, c) for c in checks], max_logits_error, words.error),
        _gate("max_rotated_error", [(c.rotated_error, c) for c in checks], max_rotated_error, words.error),
        _gate("max_latency_ratio", [(r.ratio, r) for r in report.latencies], max_latency_ratio, _ratio),
        _gate("max_artifact_bytes", [(e.bytes, e) for e in exports], max_artifact_bytes, words.number),
        _gate("max_runtime_cos_sin", [(e.runtime_cos_sin, e) for e in exports], max_runtime_cos_sin, words.number),
    )
    return replace(report, gates=(*report.gates, *(gate for gate in gates if gate is not None)))


def _ratio(value: float) -> str:
    return f"{value:.3f}×"


def _gate(name: str, found: Iterable[tuple], limit: float | None, word) -> GateRecord | None:
    if limit is None:
        return None
    measured = [(value, record) for value, record in found if value is not None]
    if not measured:
        return GateRecord(name, "failed", "nothing measured", word(limit))
    # nan is worse than any number, and max() alone would not see it.
    value, record = max(measured, key=lambda pair: math.inf if math.isnan(pair[0]) else pair[0])
    where = " · ".join(
        words.line(getattr(record, field)) for field in ("style", "case", "workload") if getattr(record, field, "")
    )
    seen = words.beside(value, limit) if word is words.error else word(value)
    return GateRecord(name, "passed" if value <= limit else "failed", f"{seen} ({where})", word(limit))
