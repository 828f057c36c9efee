"""Judge a report against the figures a run asked for. What was asked for and not measured has failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from rope_deploy.results import wording
from rope_deploy.results.records import GateRecord, GraphRecord, Report


def with_gates(
    report: Report,
    *,
    max_logits_error: float | None = None,
    max_rotated_error: float | None = None,
    max_latency_ratio: float | None = None,
    max_artifact_bytes: int | None = None,
    max_runtime_cos_sin: int | None = None,
    max_nodes: int | None = None,
    all_rotations_converted: bool = False,
    one_table_per_rotation: bool = False,
    provider: str | None = None,
) -> Report:
    """`report` with one GateRecord per limit that is set. The names are those of the [gates] table.

    Graphs are judged by `report.graphs`, for which the written files were read again, not by the export's records.
    """
    checks, exports, graphs = report.checks, report.exports, report.graphs
    cos_sin = [(one.runtime_cos_sin, one) for one in (*graphs, *exports)]
    gates = (
        _gate("max_logits_error", [(c.logits_error, c) for c in checks], max_logits_error, wording.error),
        _gate("max_rotated_error", [(c.rotated_error, c) for c in checks], max_rotated_error, wording.error),
        _gate("max_latency_ratio", [(r.ratio, r) for r in report.latencies], max_latency_ratio, _ratio),
        _gate("max_artifact_bytes", [(e.bytes, e) for e in exports], max_artifact_bytes, wording.number),
        _gate("max_runtime_cos_sin", cos_sin, max_runtime_cos_sin, wording.number),
        _gate("max_nodes", [(graph.nodes, graph) for graph in graphs], max_nodes, wording.number),
        _each("all_rotations_converted", graphs, _unconverted, "all") if all_rotations_converted else None,
        _each("one_table_per_rotation", graphs, _surplus, "one") if one_table_per_rotation else None,
        _each("provider", graphs, _fallen_back, provider) if provider else None,
    )
    return replace(report, gates=(*report.gates, *(gate for gate in gates if gate is not None)))


def _each(name: str, graphs: Sequence[GraphRecord], fault: Callable[[GraphRecord], str], limit: str) -> GateRecord:
    """The gate of a condition that every graph must meet; `fault` says how one does not, "" if it does."""
    if not graphs:
        return GateRecord(name, "failed", "nothing measured", limit)
    faults = [f"{wording.line(graph.style)}: {wording.line(found)}" for graph in graphs if (found := fault(graph))]
    met = f"in {wording.count(len(graphs), 'graph')}"
    return GateRecord(name, "failed" if faults else "passed", "; ".join(faults) or met, limit)


def _unconverted(graph: GraphRecord) -> str:
    if graph.unmatched:
        return f"{wording.count(len(graph.unmatched), 'node')} left as it was ({graph.unmatched[0]})"
    others = sum(graph.forms.values()) - graph.rotations
    if graph.rotations == graph.expected and not others:
        return "" if graph.expected else "it has no rotation at all"
    forms = ", ".join(f"{count} × {form}" for form, count in graph.forms.items()) or "none"
    return f"{graph.rotations} of {graph.expected} rotations have the form of the style; found {forms}"


def _surplus(graph: GraphRecord) -> str:
    if graph.tables == graph.needed:
        return ""
    return f"{wording.count(graph.tables, 'table')} where {graph.needed} are needed, a cos and a sin for each rule"


def _fallen_back(graph: GraphRecord) -> str:
    total = sum(graph.providers.values())
    if graph.providers and list(graph.providers) == [graph.provider]:
        return ""
    others = ", ".join(f"{count} on {name}" for name, count in graph.providers.items() if name != graph.provider)
    return f"of {wording.count(total, 'node')}, {others}" if total else "nothing measured"


def _ratio(value: float) -> str:
    return f"{value:.3f}×"


def _gate(name: str, found: Iterable[tuple], limit: float | None, text: Callable[[float], str]) -> GateRecord | None:
    if limit is None:
        return None
    measured = [(value, record) for value, record in found if value is not None]
    if not measured:
        return GateRecord(name, "failed", "nothing measured", text(limit))
    # nan is worse than any number, and max() alone would not see it.
    value, record = max(measured, key=lambda pair: math.inf if math.isnan(pair[0]) else pair[0])
    where = " · ".join(
        wording.line(getattr(record, field)) for field in ("style", "case", "workload") if getattr(record, field, "")
    )
    measured_text = wording.beside(value, limit) if text is wording.error else text(value)
    return GateRecord(name, "passed" if value <= limit else "failed", f"{measured_text} ({where})", text(limit))
