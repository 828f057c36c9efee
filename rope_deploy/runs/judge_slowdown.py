"""Judge whether a ratio is larger than in the baseline, although other processes may have disturbed the measurement.

A measurement is quiet if no other process kept the contestants waiting, neither then nor when the baseline was made.
Wall times of a quiet one are compared. Load stretches wall time, and not alike for all contestants: beside a busy
process a slow artifact may look fast, and a sound one slow. Then processor times with one thread are compared, which
load does not stretch. A first measurement that is not clear is repeated, in fresh processes, and all together decide:

    some were quiet      it is slower if every quiet one says so, beyond its noise, or if none contradicts and processor
                         time says so in every one; it is not if one quiet one is within the limit
    none was quiet       it is slower if processor time says so in every one, beyond its noise; it is not if one of them
                         is within the limit, in wall time too
    otherwise            it is unsettled. That is no failure, unless the configuration wants one

A slowdown that shows only in wall time (fewer threads at work, say) is therefore found on a quiet machine alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rope_deploy.bench import Interval, quotient_interval
from rope_deploy.options import BenchOptions, Unsettled
from rope_deploy.results.records import GateRecord, LatencyRecord

# Kept waiting for less than this share of its time, a contestant was as good as alone. One busy process on two cores
# makes it 0.4 (benchmarks/results/gate_under_load.json).
QUIET = 0.08
TRIES = 2  # further measurements


def is_quiet(record: LatencyRecord) -> bool:
    """Whether no other process kept the processors from it, as far as the system shows."""
    return record.waiting is None or record.waiting <= QUIET


def load_remark(latencies: Sequence[LatencyRecord]) -> str | None:
    """A sentence, without its end, that names the workloads which other processes disturbed; None if none was."""
    loud = sorted({one.workload for one in latencies if not is_quiet(one)})
    return f"Other processes were in the way of {', '.join(loud)}" if loud else None


def is_settled(measured: Sequence[LatencyRecord], before: LatencyRecord, limit: float) -> bool:
    """Whether a further measurement can change nothing: one of them is within the limit in all that counts."""
    return any(_is_within(one, before, limit) for one in measured)


def judge_ratio(
    name: str,
    measured: Sequence[LatencyRecord],
    before: LatencyRecord,
    limit: float,
    unsettled: Unsettled = BenchOptions.unsettled,
) -> GateRecord:
    """The gate `name` for all measurements of one ratio, the first one first."""
    quiet = [one for one in measured if _are_quiet(one, before)]
    if not quiet:
        return _judge_by_processor(name, measured, before, limit, unsettled)
    first = quotient_interval(wall_ratio(measured[0]), wall_ratio(before))
    found = [quotient_interval(wall_ratio(one), wall_ratio(before)) for one in quiet]
    calmest = _least(found)
    again = _again(measured)
    if all(one.low > limit for one in found):
        return _gate(name, "failed", f"{ratio_text(calmest)}{again}", limit)
    if calmest.value <= limit:
        remark = f", measured again (first {ratio_text(first)})" if again else ""
        return _gate(name, "passed", f"{ratio_text(calmest)}{remark}", limit)
    computed = _computed(measured, before)
    if computed and all(one.low > limit for one in computed):
        text = f"{ratio_text(calmest)}, {ratio_text(_least(computed))} of processor time{again}"
        return _gate(name, "failed", text, limit)
    text = f"{ratio_text(calmest)}: noise may explain it{again}: give it more rounds"
    return _unsettled(name, text, limit, unsettled)


def _judge_by_processor(
    name: str, measured: Sequence[LatencyRecord], before: LatencyRecord, limit: float, unsettled: Unsettled
) -> GateRecord:
    first = quotient_interval(wall_ratio(measured[0]), wall_ratio(before))
    load = _load(measured, before)
    computed = _computed(measured, before)
    if not computed:
        return _unsettled(name, f"{ratio_text(first)}: {load}, and processor time is not known", limit, unsettled)
    least = _least(computed)
    if all(one.low > limit for one in computed):
        return _gate(name, "failed", f"{ratio_text(least)} of processor time; {load}", limit)
    if is_settled(measured, before, limit):
        return _gate(name, "passed", f"{ratio_text(least)} of processor time; {load}", limit)
    return _unsettled(name, f"{ratio_text(first)}: {load}; its processor time is {ratio_text(least)}", limit, unsettled)


def wall_ratio(record: LatencyRecord) -> Interval:
    return Interval(record.ratio, record.ratio_low, record.ratio_high)


def processor_ratio(record: LatencyRecord) -> Interval | None:
    if None in (record.processor_ratio, record.processor_ratio_low, record.processor_ratio_high):
        return None
    return Interval(record.processor_ratio, record.processor_ratio_low, record.processor_ratio_high)


def ratio_text(found: Interval) -> str:
    """E.g. "1.40× (1.31 to 1.49)"."""
    return f"{found.value:.2f}× ({found.low:.2f} to {found.high:.2f})"


def limit_text(limit: float) -> str:
    return f"{limit:.2f}×"


def _are_quiet(now: LatencyRecord, before: LatencyRecord) -> bool:
    return is_quiet(now) and is_quiet(before)


def _is_within(now: LatencyRecord, before: LatencyRecord, limit: float) -> bool:
    if quotient_interval(wall_ratio(now), wall_ratio(before)).value > limit:
        return False
    found = _processor_quotient(now, before)
    return _are_quiet(now, before) or (found is not None and found.value <= limit)


def _processor_quotient(now: LatencyRecord, before: LatencyRecord) -> Interval | None:
    ours, theirs = processor_ratio(now), processor_ratio(before)
    return quotient_interval(ours, theirs) if ours and theirs else None


def _computed(measured: Sequence[LatencyRecord], before: LatencyRecord) -> list[Interval]:
    return [found for one in measured if (found := _processor_quotient(one, before))]


def _least(found: Sequence[Interval]) -> Interval:
    return min(found, key=lambda one: one.value)


def _load(measured: Sequence[LatencyRecord], before: LatencyRecord) -> str:
    """A clause that says how long other processes kept the contestant waiting, and when."""
    if loud := [one.waiting for one in measured if not is_quiet(one)]:
        return f"others kept it from the processors for up to {max(loud):.0%} of its time{_again(measured)}"
    return f"others kept it from the processors for {before.waiting:.0%} of its time when the baseline was made"


def _again(measured: Sequence[LatencyRecord]) -> str:
    return f" in {len(measured)} measurements" if len(measured) > 1 else ""


def _gate(name: str, verdict: Literal["passed", "failed"], text: str, limit: float) -> GateRecord:
    return GateRecord(name, verdict, text, limit_text(limit))


def _unsettled(name: str, text: str, limit: float, unsettled: Unsettled) -> GateRecord:
    return GateRecord(name, "failed" if unsettled == "fail" else "skipped", f"unsettled: {text}", limit_text(limit))
