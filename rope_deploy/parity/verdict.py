"""Run the cases of an artifact and say of each whether it passed, and if not, where it went wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from rope_deploy.artifact import Manifest
from rope_deploy.errors import RopeDeployError, UsageError
from rope_deploy.parity.cases import Case, Set, cases_for
from rope_deploy.parity.compare import Difference
from rope_deploy.parity.findings import CaseResult, findings, first_of
from rope_deploy.parity.invariants import Invariants
from rope_deploy.parity.judge import Judged, judge
from rope_deploy.parity.maps import curves, maps
from rope_deploy.parity.oracle import Oracle
from rope_deploy.parity.towers.cases import TowerCase, feeds_for, fixed_arrays
from rope_deploy.parity.towers.judge import judge_tower
from rope_deploy.parity.walk import Pair, walk
from rope_deploy.parity.words import listed
from rope_deploy.report.records import CheckRecord, DiagnosisRecord, ErrorCurve, ErrorMap, Worst
from rope_deploy.runtimes import Arrays, Runtime

PROSE = (
    "The history of the lighthouse begins with fires on hilltops, which guided sailors towards a harbour. Later, "
    "towers of stone were built, and lamps burning whale oil replaced the open flames. In the nineteenth century "
    "Fresnel invented a lens that threw the light much further out to sea."
)


@dataclass(frozen=True)
class Outcome:
    """`diagnoses` names the mistakes if anything failed; `maps` shows where the rotations err."""

    records: tuple[CheckRecord, ...]
    curves: tuple[ErrorCurve, ...]
    diagnoses: tuple[DiagnosisRecord, ...] = ()
    maps: tuple[ErrorMap, ...] = ()

    @property
    def failed(self) -> bool:
        return any(record.verdict == "failed" for record in self.records)


def check(
    manifest: Manifest,
    reference: Runtime | None,
    candidate: Runtime,
    *,
    only: Collection[str] = (),
    which: Set = "full",
    seed: int = 0,
    text: Sequence[int] = (),
    progress: Callable[[CheckRecord], None] = lambda record: None,
) -> Outcome:
    """Run the cases of a set, or those named in `only`, on `candidate` (opened with taps where it has any).

    Both runtimes see the same tokens, positions and pasts: the past of a step is always the reference's. A case that
    crashes has failed, and the others still run. `progress` is called with each record as it is made.

    Without a reference the rotations alone are judged, by the oracle and by what holds of every rotation, and that
    results are numbers; the past of a step is then the candidate's own.

    `text` are token ids to feed, e.g. `PROSE` through the model's tokenizer. Random tokens, taken without it, prove as
    much on a random model; a trained one is far more sensitive to them, and its rounding noise may exceed tolerances.

    Raises UsageError when `only` names a case there is not.
    """
    pair, results = _pair(manifest, reference, candidate, seed, text), []
    for case in _chosen(manifest, only, which):
        results.append(_guarded(case, pair))
        progress(results[-1].record)
    records = [result.record for result in results]
    if any(record.verdict != "skipped" for record in records):
        records.append(_coverage(pair, results))
        progress(records[-1])
    seen = [one for result in results for one in result.seen]
    return Outcome(
        tuple(records),
        tuple(curves(manifest, candidate.name, seen)),
        findings(manifest, candidate.name, results),
        tuple(maps(manifest, candidate.name, seen)),
    )


def run_case(
    case_id: str,
    manifest: Manifest,
    reference: Runtime | None,
    candidate: Runtime,
    *,
    seed: int = 0,
    text: Sequence[int] = (),
) -> CaseResult:
    """One case by its id, e.g. to look into a failure: the same arrays as in `check`."""
    (case,) = _chosen(manifest, (case_id,))
    return _guarded(case, _pair(manifest, reference, candidate, seed, text))


def _pair(manifest: Manifest, reference: Runtime | None, candidate: Runtime, seed: int, text: Sequence[int]) -> Pair:
    return Pair(manifest, reference, candidate, Oracle(manifest), Invariants(manifest), seed, text)


def _chosen(manifest: Manifest, only: Collection[str], which: Set = "full") -> tuple[Case, ...]:
    cases = cases_for(manifest, "full" if only else which)
    if strange := set(only) - {case.id for case in cases}:
        raise UsageError(
            f"There is no case {', '.join(sorted(strange))}.", exists=f"Cases: {', '.join(case.id for case in cases)}."
        )
    return tuple(case for case in cases if case.id in only) if only else cases


def _guarded(case: Case, pair: Pair) -> CaseResult:
    """The case's result, also when it crashes; timed."""
    began = time.perf_counter()
    about = pair.manifest.style, pair.candidate.name, case.id, case.detail
    blank = CheckRecord(*about, verdict="skipped", worst=None, message=case.skipped, seconds=0.0)
    if case.skipped:
        return CaseResult(blank)
    try:
        if isinstance(case, TowerCase):
            result = _of_tower(case, pair, blank)
        else:
            result = _refusal(case, pair, blank) if case.refusal else _parity(case, pair, blank)
    except _Crash as crash:
        message = " ".join(str(crash.__cause__).split()) if crash.ours else str(crash)
        result = CaseResult(replace(blank, verdict="failed", message=message), crash=str(crash))
    except Exception as error:  # whatever it was, this case has not shown parity
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        result = CaseResult(replace(blank, verdict="failed", message=message), unjudged=True)
    return replace(result, record=replace(result.record, seconds=time.perf_counter() - began))


def _parity(case: Case, pair: Pair, blank: CheckRecord) -> CaseResult:
    judged: list[Judged] = []
    for step in walk(case, pair):
        step.got = _answer(pair.candidate, step.feeds, pair.candidate.taps)
        judged.append(judge(pair, case.id, step))
    differences = [difference for one in judged for difference in one.differences]
    failed = [difference for difference in differences if difference.failed]
    exactness = [seen.exactness for one in judged for seen in one.seen]
    record = replace(
        blank,
        verdict="failed" if failed else "passed",
        worst=_worst(max(differences, key=lambda difference: difference.ratio)),
        message=_message(failed, judged),
        logits_error=_largest(differences, "logits"),
        rotated_error=_largest(differences, "rotated"),
        oracle_error=max((e for e, _ in exactness if e is not None), default=None),
        reference_error=max((e for _, e in exactness if e is not None), default=None),
    )
    return CaseResult(
        record,
        seen=tuple(seen for one in judged for seen in one.seen),
        differences=tuple(differences),
        turned=tuple(turned for one in judged for turned in one.turned),
    )


def _of_tower(case: TowerCase, pair: Pair, blank: CheckRecord) -> CaseResult:
    """One call with the case's inputs; PyTorch is given what the graph was made for besides."""
    feeds = feeds_for(case, pair.manifest, pair.seed)
    if case.refusal:
        try:
            _answer(pair.candidate, feeds)
        except UsageError as error:
            return CaseResult(replace(blank, verdict="passed", message=f"Refused: {error.asked}"))
        return CaseResult(replace(blank, verdict="failed", message=f"It ran; {case.refusal.__name__} was promised."))
    want: Arrays = {}
    if pair.reference is not None:
        want = pair.reference.run(feeds | fixed_arrays(pair.manifest), taps=True)
    got = _answer(pair.candidate, feeds, pair.candidate.taps)
    differences, seen, named = judge_tower(pair.manifest, got, want)
    failed = [difference for difference in differences if difference.failed]
    said = f"{first_of(failed).words()}. {len(failed)} of {len(differences)} comparisons failed." if failed else ""
    record = replace(
        blank,
        verdict="failed" if failed else "passed",
        worst=_worst(max(differences, key=lambda difference: difference.ratio)),
        message=said,
        logits_error=_largest(differences, "logits"),
        rotated_error=_largest(differences, "rotated"),
        oracle_error=_largest(differences, "oracle"),
    )
    return CaseResult(record, seen=seen, differences=differences, named=named)


class _Crash(Exception):
    """The candidate did not answer, and not because it refuses such a call. What it said last is left to the case."""

    def __init__(self, error: Exception):
        self.ours = isinstance(error, RopeDeployError)
        super().__init__(error.asked if self.ours else f"{type(error).__name__}: {error}")


def _answer(candidate: Runtime, feeds: Arrays, taps: bool = False) -> Arrays:
    try:
        return candidate.run(feeds, taps=taps)
    except UsageError:
        raise
    except Exception as error:
        raise _Crash(error) from error


def _refusal(case: Case, pair: Pair, blank: CheckRecord) -> CaseResult:
    """Every call runs but the last, which must raise exactly the promised error."""
    for step in walk(case, pair):
        try:
            step.got = _answer(pair.candidate, step.feeds)
        except UsageError as error:
            if step.refused and type(error) is case.refusal:
                return CaseResult(replace(blank, verdict="passed", message=f"Refused: {error.asked}"))
            raise
    return CaseResult(replace(blank, verdict="failed", message=f"It ran; {case.refusal.__name__} was promised."))


def _largest(differences: Iterable[Difference], kind: str) -> float | None:
    return max((difference.error for difference in differences if difference.kind == kind), default=None)


def _worst(difference: Difference) -> Worst:
    return Worst(
        tensor=difference.tensor,
        error=difference.error,
        tolerance=difference.tolerance,
        layer=difference.layer,
        role=difference.role,
        batch=difference.batch,
        position=difference.position,
    )


def _message(failed: list[Difference], judged: list[Judged]) -> str:
    flips, tokens = [flip for one in judged for flip in one.flips], sum(one.tokens for one in judged)
    parts = []
    if failed:
        total = sum(len(one.differences) for one in judged)
        parts.append(f"{first_of(failed).words()}. {len(failed)} of {total} comparisons failed.")
    if flips:
        wrong = [flip for flip in flips if not flip.near_tie]
        what = "near ties in PyTorch's own logits" if not wrong else f"{len(flips) - len(wrong)} of them near ties"
        sure = max((flip.margin for flip in wrong), default=0.0)
        parts.append(
            f"The most likely token differs at {len(flips)} of {tokens} tokens, {what}"
            + (f"; PyTorch is sure by up to {sure:.2g} at the others." if wrong else ".")
        )
    return " ".join(parts)


def _whose_angles(pair: Pair, results: list[CaseResult]) -> str:
    """What the rotations of a tower were held against."""
    watched = {s.site.key for result in results for s in result.seen if s.of_kind("oracle") is not None}
    blind = [(site.layer, site.role) for site in pair.manifest.sites if site.key not in watched]
    if pair.reference is None or not blind:
        return "" if pair.reference is None else " PyTorch's own angles were the oracle."
    return f" PyTorch's rotation was not seen: {listed(blind)}; judged by what holds of every rotation and by results."


def _coverage(pair: Pair, results: list[CaseResult]) -> CheckRecord:
    """Was every rotation in the manifest looked at? What could not be seen is said, never passed over."""
    manifest, candidate = pair.manifest, pair.candidate
    seen = {s.site.key: s.how for result in results for s in result.seen if s.differences}
    hidden = [site for site in manifest.sites if site.key not in seen]
    through = [(s.layer, s.role) for s in manifest.sites if seen.get(s.key) == "products"]
    if hidden:
        verdict = "skipped"
        message = f"Not observable in {candidate.name}: {listed((s.layer, s.role) for s in hidden)}."
        message += f" {len(manifest.sites) - len(hidden)} of {len(manifest.sites)} sites were compared."
    else:
        verdict, message = "passed", f"All {len(manifest.sites)} sites were compared."
    if through:
        message += f" Through the products q·k: {listed(through)}."
    if manifest.task == "tower":
        message += _whose_angles(pair, results)
    elif blind := pair.oracle.without_rule:
        by = "PyTorch and by its invariants" if pair.reference is not None else "its invariants"
        message += f" No rule is known for {', '.join(blind)}: judged by {by}, not by the oracle."
    if pair.reference is None:
        message += " Without PyTorch: results and values of the cache were not compared."
    detail = "every site of the manifest is compared"
    return CheckRecord(manifest.style, candidate.name, "coverage", detail, verdict, None, message, 0.0)
