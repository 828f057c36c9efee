"""Compare a benchmark with an earlier one, by ratios: absolute times of two runs cannot be compared.

A baseline is an ordinary JSON report. What is compared is the quotient of two ratios, each the median over interleaved
rounds with an interval. A gate fails only if even the favourable end of the quotient's interval is above the limit, in
every measurement that counts (`judge_slowdown.py`): neither noise nor the load of other processes makes it fail.

Ratios carry over between moments of one machine, not between machines: how a matrix product compares with another
depends on the processor. So a baseline of another machine is refused, unless the options say what to do with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rope_deploy.artifact import new_file, write_utf8
from rope_deploy.errors import ConfigError, UsageError
from rope_deploy.options import FEWEST_ROUNDS, BenchOptions, OtherMachine, Unsettled
from rope_deploy.report.json_format import from_json, to_json
from rope_deploy.results.records import ContestantRecord, GateRecord, LatencyRecord, Report
from rope_deploy.runs.judge_slowdown import TRIES, is_settled, judge_ratio, limit_text, processor_ratio, wall_ratio
from rope_deploy.runs.report_files import refuse_foreign
from rope_deploy.safe_reading import read_bytes

GATE = "max_slowdown"

Key = tuple[str, str, str]  # of a ratio: runtime, style, workload
# Measures the ratios of these keys, in a fresh process; () where that cannot be.
MeasureAgain = Callable[[Collection[Key]], Sequence[LatencyRecord]]


@dataclass(frozen=True)
class Baseline:
    """An admitted baseline: its ratios by key. `foreign` says why nothing is judged by it, "" if it is judged."""

    ratios: Mapping[Key, LatencyRecord]
    foreign: str = ""


def key(record: LatencyRecord) -> Key:
    return record.runtime, record.style, record.workload


def read_baseline(path: Path, *, update: str) -> Report:
    """The earlier report. Raises UsageError or ConfigError, with `update` as the remedy, if `path` holds none."""
    if not Path(path).is_file():
        raise UsageError(f"There is no baseline {path}.", todo=update)
    try:
        report = from_json(read_bytes(Path(path)), name=f"the baseline {path}")
    except ConfigError as error:
        error.todo = update
        raise
    if not any(record.ratio is not None for record in report.latencies):
        raise UsageError(
            f"{path} holds no ratios.",
            exists="A ratio relates two contestants of one run.",
            todo=f"Let at least two take part, e.g. PyTorch and ONNX Runtime. {update}",
        )
    return report


def admit_baseline(
    path: Path,
    *,
    machine: str,
    source: str,
    wanted: Collection[Key],
    reference: str,
    threads: int | None,
    other_machine: OtherMachine,
    update: str,
) -> Baseline:
    """Read `path` and decide, before anything is timed, whether this run can be compared with it.

    Raises UsageError or ConfigError for a baseline that is none, of another schema, model, machine, reference or
    number of threads, made with too few rounds, or without one of `wanted`.
    """
    report = read_baseline(path, update=update)
    if Path(report.source).name != Path(source).name:
        raise UsageError(f"The baseline {path} is of {report.source}, this run of {source}.", todo=update)
    foreign = "" if report.machine == machine else f"the baseline is of another machine ({report.machine})"
    if foreign and other_machine == "refuse":
        raise UsageError(
            f"The baseline {path} is of another machine: {report.machine}.",
            exists=f"This is {machine}. Ratios differ between processors.",
            todo=f'{update} Or say what to do with it: other_machine = "skip" or "compare" (--other-machine).',
        )
    ratios = {key(record): record for record in report.latencies if record.ratio is not None}
    if missing := [" ".join(filter(None, one)) for one in wanted if one not in ratios]:
        raise UsageError(
            f"The baseline {path} has no {', '.join(missing)}.",
            exists=f"It has {', '.join(' '.join(filter(None, one)) for one in ratios)}.",
            todo=update,
        )
    for one in wanted:
        _require_comparable(path, ratios[one], reference, threads, update)
    return Baseline(ratios, foreign if other_machine == "skip" else "")


def _require_comparable(path: Path, record: LatencyRecord, reference: str, threads: int | None, update: str) -> None:
    differs = {
        "reference": (record.reference, reference),
        "threads": (record.threads or "chosen by the runtime", threads or "chosen by the runtime"),
    }
    for what, (theirs, ours) in differs.items():
        if theirs != ours:
            raise UsageError(f"The baseline {path} has another {what}: {theirs}, this run {ours}.", todo=update)
    if record.rounds < FEWEST_ROUNDS or record.ratio_low is None or record.ratio_high is None:
        raise UsageError(
            f"The baseline {path} was made in {record.rounds} rounds: too few to know its noise.",
            exists=f"It takes {FEWEST_ROUNDS} at least.",
            todo=update,
        )
    for name, found in (("ratio", wall_ratio(record)), ("processor ratio", processor_ratio(record))):
        if found and not 0 < found.low <= found.value <= found.high < math.inf:
            raise UsageError(
                f"The baseline {path} is damaged: {record.workload} has the {name} {found.value:g}, between "
                f"{found.low:g} and {found.high:g}.",
                todo=update,
            )
    if record.waiting is not None and not 0 <= record.waiting <= 1:
        raise UsageError(
            f"The baseline {path} is damaged: {record.workload} was kept waiting for {record.waiting:g} of its time.",
            todo=update,
        )


def gates_against(
    latencies: Sequence[LatencyRecord],
    contestants: Sequence[ContestantRecord],
    baseline: Baseline,
    wanted: Collection[Key],
    limit: float = BenchOptions.max_slowdown,
    *,
    measure_again: MeasureAgain = lambda keys: (),
    unsettled: Unsettled = BenchOptions.unsettled,
) -> tuple[GateRecord, ...]:
    """A gate for each of `wanted`. What was wanted and could not be timed has failed.

    What is above the limit, or was kept waiting by other processes, is measured again, up to TRIES times. `unsettled`:
    whether a ratio that other processes keep from being judged passes or fails.
    """
    if baseline.foreign:
        return (GateRecord(GATE, "skipped", f"not judged: {baseline.foreign}", limit_text(limit)),)
    measured = {key(record): [record] for record in latencies}
    doubtful = {
        one
        for one in wanted
        if one in measured
        and measured[one][0].reference == baseline.ratios[one].reference
        and not is_settled(measured[one], baseline.ratios[one], limit)
    }
    for _ in range(TRIES):
        doubtful = {one for one in doubtful if not is_settled(measured[one], baseline.ratios[one], limit)}
        if not doubtful:
            break
        for record in measure_again(doubtful):
            if key(record) in doubtful and record.ratio is not None:
                measured[key(record)].append(record)
    reasons = {(one.runtime, one.style): one.message for one in contestants if one.verdict == "skipped"}
    gates = []
    for one in wanted:
        name = f"{GATE}: {' '.join(filter(None, one))}"
        if one in measured:
            gates.append(_judge(name, measured[one], baseline.ratios[one], limit, unsettled))
        else:
            reason = reasons.get(one[:2], "") or "no reason was recorded"
            gates.append(GateRecord(name, "failed", f"not measured: {reason}", limit_text(limit)))
    return tuple(gates)


def _judge(
    name: str, measured: Sequence[LatencyRecord], before: LatencyRecord, limit: float, unsettled: Unsettled
) -> GateRecord:
    if measured[0].reference != before.reference:
        text = f"not comparable: the ratio refers to {measured[0].reference}, in the baseline to {before.reference}"
        return GateRecord(name, "failed", text, limit_text(limit))
    return judge_ratio(name, measured, before, limit, unsettled)


def write_baseline(report: Report, path: Path) -> None:
    """Keep the latencies of `report` in `path`, whole or not at all, and nothing that does not bear on them."""
    kept = Report(
        title=f"Latency baseline of {report.title}",
        source=report.source,
        kind="baseline",
        created=report.created,
        machine=report.machine,
        versions=report.versions,
        seconds=report.seconds,
        latencies=tuple(replace(record, rotation_share=None) for record in report.latencies),
    )
    refuse_foreign(Path(path), kept.kind)
    with new_file(Path(path)) as temporary:
        write_utf8(temporary, to_json(kept))
