"""Run the cases of an artifact and say of each whether it passed, and if not, where it went wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.errors import InternalFault, RopeDeployError, RuntimeCrashed, UsageError, VendorError
from rope_deploy.parity.cases import Case, Set, cases_for
from rope_deploy.parity.compare import Difference
from rope_deploy.parity.error_maps import curves, maps
from rope_deploy.parity.findings import CaseResult, findings, first_of
from rope_deploy.parity.judge_call import Judged, judge
from rope_deploy.parity.listed_sites import listed
from rope_deploy.parity.oracle import Oracle, Stored
from rope_deploy.parity.pooled_verdict import on_the_whole
from rope_deploy.parity.run_calls import Pair, Step, comparable, exact_of, walk
from rope_deploy.parity.towers.cases import TowerCase, feeds_for, fixed_arrays
from rope_deploy.parity.towers.judge_call import judge_tower
from rope_deploy.results.records import CheckRecord, DiagnosisRecord, ErrorCurve, ErrorMap, Worst
from rope_deploy.runtimes import Arrays, Runtime

AFTER = "rotated."
BEFORE = "unrotated."  # what the names of PyTorch's tensors begin with that its rotary function was given
PROSE = (
    "The history of the lighthouse begins with fires on hilltops, which guided sailors towards a harbour. Later, "
    "towers of stone were built, and lamps burning whale oil replaced the open flames. In the nineteenth century "
    "Fresnel invented a lens that threw the light much further out to sea."
)

EXAMPLES = 3
AS_IT_IS = "the model as transformers runs it"


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
    stored: Stored = MappingProxyType({}),
    progress: Callable[[CheckRecord], None] = lambda record: None,
) -> Outcome:
    """Run the cases of a set, or those named in `only`, on `candidate` (opened with taps where it has any).

    Both runtimes see the same tokens, positions and pasts: the past of a step is always the reference's. A case that
    crashes has failed, and the others still run. `progress` is called with each record as it is made.

    Without a reference the rotations alone are judged, by the oracle, and that results are numbers; the past of a step
    is then the candidate's own. `stored` are the file's own tables of rotations without a rule, by name: with nothing
    else to go by, the runtime is held to them.

    `text` are token ids to feed, e.g. `PROSE` through the model's tokenizer. Random tokens, taken without it, prove as
    much on a random model; a trained one is far more sensitive to them, and its rounding noise may exceed tolerances.

    Raises UsageError when `only` names a case there is not.
    """
    pair, results = _pair(manifest, reference, candidate, seed, text, stored), []
    for case in _chosen(manifest, only, which):
        if reference is None and not only and _is_untouched(case):
            continue  # the verdict says that PyTorch was left out
        results.append(_guarded(case, pair))
        progress(results[-1].record)
    records = [result.record for result in results]
    if any(ratios for result in results for ratios in result.ratios):
        records.append(on_the_whole(pair.manifest, pair.candidate.name, results))
        progress(records[-1])
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


def _pair(
    manifest: Manifest,
    reference: Runtime | None,
    candidate: Runtime,
    seed: int,
    text: Sequence[int],
    stored: Stored = MappingProxyType({}),
) -> Pair:
    exact, oracle = exact_of(reference, manifest), Oracle(manifest, stored)
    return Pair(manifest, reference, exact, candidate, oracle, seed, text, in_proportion=comparable(manifest))


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
    if _is_untouched(case):
        if (untouched := _untouched(pair)) is None:
            return CaseResult(replace(blank, message=f"{AS_IT_IS.capitalize()} cannot be had here."))
        pair = replace(
            pair, reference=untouched, exact=None if pair.exact is None else getattr(untouched, "exact", None)
        )
    try:
        if isinstance(case, TowerCase):
            result = _of_tower(case, pair, blank)
        else:
            result = _refusal(case, pair, blank) if case.refusal else _parity(case, pair, blank)
    except _Crash as crash:
        message = " ".join(str(crash.__cause__).split()) if crash.ours else str(crash)
        result = CaseResult(replace(blank, verdict="failed", message=message), crash=str(crash))
    except Exception as error:  # whatever it was, this case has not shown parity
        message = _unjudged(error)
        result = CaseResult(replace(blank, verdict="failed", message=message), unjudged=True)
    return replace(result, record=replace(result.record, seconds=time.perf_counter() - began))


def _is_untouched(case: Case | TowerCase) -> bool:
    return case.untouched


def _untouched(pair: Pair) -> Runtime | None:
    """The reference with nothing of ours in it, at the beginning of a text; None without one."""
    ask = getattr(pair.reference, "untouched", None)
    return None if ask is None else ask(pair.manifest.result_name)


def _rotated(want: Arrays) -> set[str]:
    """The sites that PyTorch's rotary function was seen to change: it may be given a k and hand it back as it was."""
    given = {name.removeprefix(BEFORE): value for name, value in want.items() if name.startswith(BEFORE)}
    return {key for key, value in given.items() if not np.array_equal(value, want.get(f"{AFTER}{key}"), equal_nan=True)}


def _parity(case: Case, pair: Pair, blank: CheckRecord) -> CaseResult:
    judged: list[Judged] = []
    rotating: set[str] = set()
    for step in walk(case, pair):
        rotating |= _rotated(step.want)
        # The model as transformers runs it shows its result alone; sites are looked at in every other case.
        step.got = _answer(pair.candidate, step.feeds, pair.candidate.taps and not case.untouched)
        judged.append(judge(pair, case.id, step))
    differences = [difference for one in judged for difference in one.differences]
    failed = [difference for difference in differences if difference.failed]
    apart = [difference for one in judged for difference in one.from_pytorch]
    exactness = [seen.exactness for one in judged for seen in one.seen]
    record = replace(
        blank,
        verdict="failed" if failed else "passed",
        worst=_worst(max(differences, key=lambda difference: difference.ratio)),
        message=" ".join(part for part in (_message(failed, judged), _against(case) if failed else "") if part),
        logits_error=_largest(apart, "logits"),
        rotated_error=_largest(apart, "rotated"),
        oracle_error=max((e for e, _ in exactness if e is not None), default=None),
        reference_error=max((e for _, e in exactness if e is not None), default=None),
    )
    return CaseResult(
        record,
        seen=tuple(seen for one in judged for seen in one.seen),
        differences=tuple(differences),
        turned=tuple(turned for one in judged for turned in one.turned),
        rotating=frozenset(rotating),
        ratios=tuple(one.ratios for one in judged),
        tokens=sum(one.tokens for one in judged),
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
        want = pair.reference.run(feeds | fixed_arrays(pair.manifest), taps=not case.untouched)
    got = _answer(pair.candidate, feeds, pair.candidate.taps and not case.untouched)
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
        super().__init__(error.asked if self.ours else _unjudged(error))


def _unjudged(error: Exception) -> str:
    """Why a case has no verdict on parity. What nobody expected is a fault of ours, and no difference."""
    if isinstance(error, MemoryError):
        return "Memory ran out."
    if isinstance(error, RopeDeployError):
        return " ".join(str(error).split())
    fault = InternalFault.of(type(error).__name__, str(error))
    return f"{fault.asked}. No parity was judged: this is a fault in rope-deploy."


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
                if case.placing == "out-of-range" and (fault := _unguarded(pair, step)):
                    return CaseResult(replace(blank, verdict="failed", message=fault), unguarded=fault)
                return CaseResult(replace(blank, verdict="passed", message=f"Refused: {error.asked}"))
            raise
    return CaseResult(replace(blank, verdict="failed", message=f"It ran; {case.refusal.__name__} was promised."))


def _unguarded(pair: Pair, step: Step) -> str:
    """What is wrong with the graph's own answer to a position outside its table, as any other program would get it.

    "" if it is no number, or an error; or if this runtime cannot be asked without what we put before it. Angles that
    are computed at run time have no table to leave, and a fused attention that counts by itself is given no positions.
    """
    ask, manifest = getattr(pair.candidate, "unguarded", None), pair.manifest
    tabulated = any(rotation.cos_sin != "computed" for rotation in manifest.rotations)
    if ask is None or not tabulated or not manifest.limits.prompt_positions:
        return ""
    try:
        result = ask(step.feeds)[pair.manifest.result_name]
    except RuntimeCrashed as error:
        raise _Crash(error) from error
    except VendorError:
        return ""
    positions = step.feeds["position_ids"].reshape(-1, *step.feeds["input_ids"].shape)
    outside = (positions < 0) | (positions >= pair.manifest.max_position)
    if np.isnan(result[outside.any(axis=0)]).all():
        return ""
    return (
        f"The graph itself answers position {positions[outside][0]}, which is not in its table, with numbers, those of "
        "another position: it has lost the guard that would make them NaN. In other programs nothing refuses it."
    )


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
    if excused := dict.fromkeys(difference.tensor for one in judged for difference in one.excused):
        names = ", ".join([*excused][:EXAMPLES])
        names += f" and {len(excused) - EXAMPLES} more" if len(excused) > EXAMPLES else ""
        parts.append(f"Beyond the fixed tolerance, and as near to the model in float64 as PyTorch itself: {names}.")
    if failed and (why := next(filter(None, (one.no_truth for one in judged)), "")):
        parts.append(f"The model in float64, which might have excused it, could not be asked: {why}")
    if flips:
        wrong = [flip for flip in flips if not flip.near_tie]
        what = "near ties in PyTorch's own logits" if not wrong else f"{len(flips) - len(wrong)} of them near ties"
        sure = max((flip.margin for flip in wrong), default=0.0)
        parts.append(
            f"The most likely token differs at {len(flips)} of {tokens} tokens, {what}"
            + (f"; PyTorch is sure by up to {sure:.2g} at the others." if wrong else ".")
        )
    return " ".join(parts)


def _against(case: Case) -> str:
    return f"Compared with {AS_IT_IS}." if case.untouched else ""


def _whose_angles(pair: Pair, results: list[CaseResult]) -> str:
    """What the rotations of a tower were held against."""
    watched = {s.site.key for result in results for s in result.seen if s.of_kind("oracle") is not None}
    blind = [(site.layer, site.role) for site in pair.manifest.sites if site.key not in watched]
    if pair.reference is None or not blind:
        return "" if pair.reference is None else " PyTorch's own angles were the oracle."
    return f" PyTorch's rotation was not seen: {listed(blind)}; judged by what holds of every rotation and by results."


def _unlisted(pair: Pair, results: list[CaseResult]) -> set[tuple[int, str]]:
    """Layer and role of what PyTorch rotates and the manifest leaves out."""
    keys = {key for result in results for key in result.rotating} - {site.key for site in pair.manifest.sites}
    return {(int(layer), role) for layer, role in (key.split(".")[:2] for key in keys)}


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
    if unlisted := sorted(_unlisted(pair, results)):
        verdict = "failed"
        message += f" PyTorch also rotates {listed(unlisted)}, which the manifest does not list."
    if through:
        message += f" Through the products q·k: {listed(through)}."
    if manifest.task == "tower":
        message += _whose_angles(pair, results)
    elif blind := pair.oracle.without_rule:
        by = "by PyTorch's own angles" if pair.reference is not None else "by the tables of the file alone"
        message += f" No rule is known for {', '.join(blind)}: judged {by}."
    if pair.reference is None:
        message += (
            " Without PyTorch: results, values of the cache and what the manifest says of the model were not compared."
        )
    detail = "every site of the manifest is compared"
    return CheckRecord(manifest.style, candidate.name, "coverage", detail, verdict, None, message, 0.0)
