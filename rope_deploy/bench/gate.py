"""A limit on how much slower one contestant may be than another."""

from __future__ import annotations

from collections.abc import Iterable

from rope_deploy.report.records import GateRecord, LatencyRecord


def ratio_gates(records: Iterable[LatencyRecord], largest: float) -> tuple[GateRecord, ...]:
    """One gate per workload: no ratio to the baseline above `largest`. Failed where nothing has a ratio.

    Records without a ratio (their baseline did not run that workload) are not judged, but a workload in which
    nothing could be judged has failed: unmeasured is not fast enough.
    """
    workloads: dict[str, list[LatencyRecord]] = {}
    for record in records:
        workloads.setdefault(record.workload, []).append(record)
    return tuple(_gate(workload, found, largest) for workload, found in workloads.items()) or (
        GateRecord("latency ratio", "failed", "nothing was measured", f"≤ {largest:g}"),
    )


def _gate(workload: str, records: list[LatencyRecord], largest: float) -> GateRecord:
    name, limit = f"latency ratio, {workload}", f"≤ {largest:g}"
    judged = [record for record in records if record.ratio is not None]
    if not judged:
        return GateRecord(name, "failed", "no ratio was measured", limit)
    slowest = max(judged, key=lambda record: record.ratio)
    measured = f"{slowest.ratio:.3f} ({'/'.join(filter(None, (slowest.runtime, slowest.style)))})"
    return GateRecord(name, "passed" if slowest.ratio <= largest else "failed", measured, limit)
