"""Hold a benchmark against an earlier one, by ratios: absolute times of two runs cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rope_deploy.errors import UsageError
from rope_deploy.report.json_format import from_json
from rope_deploy.report.records import GateRecord, LatencyRecord

# How much a ratio may grow before it is called slower; repeated runs on a shared machine differ by half of this.
SLACK = 1.25


def read_baseline(path: Path) -> tuple[LatencyRecord, ...]:
    """The latencies of an earlier JSON report. Raises UsageError or ConfigError if `path` is none, or holds none."""
    if not Path(path).is_file():
        raise UsageError(
            f"There is no baseline {path}.", todo="Make one with `rope-deploy bench DIR --report FILE.json`."
        )
    latencies = from_json(Path(path).read_bytes(), name=f"the baseline {path}").latencies
    if not any(record.ratio is not None for record in latencies):
        raise UsageError(f"{path} holds no ratios.", todo="Make it with `rope-deploy bench DIR --runtime torch,ort`.")
    return latencies


def against(latencies: Sequence[LatencyRecord], earlier: Sequence[LatencyRecord]) -> tuple[GateRecord, ...]:
    """A gate for each (runtime, style, workload) that both have: its ratio may be at most SLACK times the earlier.

    Raises UsageError if nothing can be compared: a single contestant has no ratio to anybody.
    """
    before = {(r.runtime, r.style, r.workload): r.ratio for r in earlier}
    gates = []
    for record in latencies:
        old = before.get((record.runtime, record.style, record.workload))
        # The contestant that ratios refer to is 1 by definition.
        if record.ratio is None or old is None or record.ratio == old == 1.0:
            continue
        name = " ".join(filter(None, (record.runtime, record.style, record.workload)))
        verdict = "passed" if record.ratio <= SLACK * old else "failed"
        gates.append(GateRecord(f"latency ratio: {name}", verdict, f"{record.ratio:.2f}", f"{SLACK * old:.2f}"))
    if not gates:
        raise UsageError(
            "Nothing in this run can be compared with the baseline.",
            exists="Times are compared as ratios to another contestant of the same run.",
            todo="Use --runtime torch,ort both times, with the same --prompt.",
        )
    return tuple(gates)
