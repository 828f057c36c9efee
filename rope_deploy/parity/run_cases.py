"""Run the cases of an artifact on a runtime and the reference, and collect their verdicts.

cases.py           which cases there are             compare_call.py    one call against PyTorch and the oracle
case_inputs.py     the arrays of their calls         tolerances.py      how far anything may be from them
run_calls.py       what the reference answers        case_verdict.py    passed or failed, and why
diagnose_cases.py  mistakes by name                  pooled_verdict.py, coverage_verdict.py  all cases together
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.errors import InternalFault, RopeDeployError, RuntimeCrashed, UsageError, VendorError
from rope_deploy.parity.case_result import CaseResult
from rope_deploy.parity.case_verdict import AS_IT_IS, case_verdict, tower_verdict
from rope_deploy.parity.cases import Case, Set, cases_for
from rope_deploy.parity.compare_call import CallComparison, compare_call
from rope_deploy.parity.coverage_verdict import coverage_verdict
from rope_deploy.parity.diagnose_cases import diagnose_cases
from rope_deploy.parity.error_maps import error_curves, error_maps
from rope_deploy.parity.float64_oracle import Oracle, StoredTables
from rope_deploy.parity.pooled_verdict import pooled_verdict
from rope_deploy.parity.run_calls import CallRun, CheckSetup, exact_reference, run_calls
from rope_deploy.parity.tolerances import measured_by_reference
from rope_deploy.parity.towers.cases import TowerCase, feeds_for, fixed_arrays
from rope_deploy.parity.towers.compare_call import compare_tower_call
from rope_deploy.results.records import CheckRecord, DiagnosisRecord, ErrorCurve, ErrorMap
from rope_deploy.runtimes import Arrays, Measurable, Reference, Runtime

# What PyTorch's tensors before and after its rotary function are named by.
BEFORE, AFTER = "unrotated.", "rotated."
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
    reference: Reference | None,
    runtime: Runtime,
    *,
    only: Collection[str] = (),
    which: Set = "full",
    seed: int = 0,
    text: Sequence[int] = (),
    stored: StoredTables = MappingProxyType({}),
    progress: Callable[[CheckRecord], None] = lambda record: None,
) -> Outcome:
    """Run the cases of a set, or those named in `only`, on `runtime` (opened with taps where it has any).

    Reference and runtime see the same tokens, positions and pasts: the past of a call is always the reference's. A case
    that crashes has failed, and the others still run. `progress` is called with each record as it is made.

    Without a reference the rotations alone are judged, by the oracle, and that results are finite; the past of a call
    is then the runtime's own. `stored` are the file's own tables of rotations without a rule, by name: without a rule
    and a reference, the runtime is compared with them.

    `text` are token ids to feed, e.g. `PROSE` through the model's tokenizer. Random tokens, taken without it, prove as
    much on a random model; a trained one is far more sensitive to them, and its rounding noise may exceed tolerances.

    Raises UsageError when `only` names a case there is not.
    """
    setup, results = _setup(manifest, reference, runtime, seed, text, stored), []
    for case in _chosen(manifest, only, which):
        if reference is None and not only and case.untouched:
            continue  # the coverage record says that PyTorch was left out
        results.append(_run_guarded(case, setup))
        progress(results[-1].record)
    records = [result.record for result in results]
    if any(ratios for result in results for ratios in result.ratios):
        records.append(pooled_verdict(manifest, runtime.name, results))
        progress(records[-1])
    if any(record.verdict != "skipped" for record in records):
        records.append(coverage_verdict(setup, results))
        progress(records[-1])
    sites = [site for result in results for site in result.sites]
    return Outcome(
        tuple(records),
        tuple(error_curves(manifest, runtime.name, sites)),
        diagnose_cases(manifest, runtime.name, results),
        tuple(error_maps(manifest, runtime.name, sites)),
    )


def _setup(
    manifest: Manifest,
    reference: Reference | None,
    runtime: Runtime,
    seed: int,
    text: Sequence[int],
    stored: StoredTables,
) -> CheckSetup:
    exact, oracle = exact_reference(reference, manifest), Oracle(manifest, stored)
    in_proportion = measured_by_reference(manifest)
    return CheckSetup(manifest, reference, exact, runtime, oracle, seed, text, in_proportion=in_proportion)


def _chosen(manifest: Manifest, only: Collection[str], which: Set = "full") -> tuple[Case | TowerCase, ...]:
    cases = cases_for(manifest, "full" if only else which)
    if strange := set(only) - {case.id for case in cases}:
        raise UsageError(
            f"There is no case {', '.join(sorted(strange))}.", exists=f"Cases: {', '.join(case.id for case in cases)}."
        )
    return tuple(case for case in cases if case.id in only) if only else cases


def _run_guarded(case: Case | TowerCase, setup: CheckSetup) -> CaseResult:
    """The case's result, timed. Whatever is raised makes it fail, with what was raised as its message."""
    began = time.perf_counter()
    about = setup.manifest.style, setup.runtime.name, case.id, case.detail
    blank = CheckRecord(*about, verdict="skipped", worst=None, message=case.skipped, seconds=0.0)
    if case.skipped:
        return CaseResult(blank)
    if case.untouched:
        if (untouched := _untouched_reference(setup)) is None:
            return CaseResult(replace(blank, message=f"{AS_IT_IS.capitalize()} cannot be had here."))
        exact = None if setup.exact is None else untouched.exact
        setup = replace(setup, reference=untouched, exact=exact)
    try:
        if isinstance(case, TowerCase):
            result = _run_tower_case(case, setup, blank)
        else:
            result = _run_refusal(case, setup, blank) if case.refusal else _run_case(case, setup, blank)
    except _Crash as crash:
        message = " ".join(str(crash.__cause__).split()) if crash.ours else str(crash)
        result = CaseResult(replace(blank, verdict="failed", message=message), crash=str(crash))
    except Exception as error:  # whatever it was, this case has not shown parity
        result = CaseResult(replace(blank, verdict="failed", message=_error_text(error)), unjudged=True)
    return replace(result, record=replace(result.record, seconds=time.perf_counter() - began))


def _untouched_reference(setup: CheckSetup) -> Measurable | None:
    """The reference with nothing of ours in it, at the beginning of a text; None without one."""
    return None if setup.reference is None else setup.reference.untouched(setup.manifest.result_name)


def _run_case(case: Case, setup: CheckSetup, blank: CheckRecord) -> CaseResult:
    """Every call of the case, run and compared."""
    calls: list[CallComparison] = []
    rotating: set[str] = set()
    for run in run_calls(case, setup):
        rotating |= _rotated_sites(run.want)
        # The model as transformers runs it shows its result alone; sites are compared in every other case.
        run.got = _answer(setup.runtime, run.feeds, setup.runtime.taps and not case.untouched)
        calls.append(compare_call(setup, case.id, run))
    return case_verdict(case, calls, rotating, blank)


def _rotated_sites(want: Arrays) -> set[str]:
    """The sites that PyTorch's rotary function was seen to change: it may be given a k and hand it back as it was."""
    given = {name.removeprefix(BEFORE): value for name, value in want.items() if name.startswith(BEFORE)}
    return {key for key, value in given.items() if not np.array_equal(value, want.get(f"{AFTER}{key}"), equal_nan=True)}


def _run_tower_case(case: TowerCase, setup: CheckSetup, blank: CheckRecord) -> CaseResult:
    """One call with the case's inputs; PyTorch is also given the inputs that the graph was traced with."""
    feeds = feeds_for(case, setup.manifest, setup.seed)
    if case.refusal:
        try:
            _answer(setup.runtime, feeds)
        except UsageError as error:
            return _refused(blank, error)
        return _not_refused(blank, case)
    want: Arrays = {}
    if setup.reference is not None:
        want = setup.reference.run(feeds | fixed_arrays(setup.manifest), taps=not case.untouched)
    got = _answer(setup.runtime, feeds, setup.runtime.taps and not case.untouched)
    return tower_verdict(*compare_tower_call(setup.manifest, got, want), blank)


def _run_refusal(case: Case, setup: CheckSetup, blank: CheckRecord) -> CaseResult:
    """Every call runs but the last, which must raise exactly the promised error."""
    for run in run_calls(case, setup):
        try:
            run.got = _answer(setup.runtime, run.feeds)
        except UsageError as error:
            if run.refused and type(error) is case.refusal:
                if case.positions == "out-of-range" and (fault := _unguarded_answer(setup, run)):
                    return CaseResult(replace(blank, verdict="failed", message=fault), unguarded=fault)
                return _refused(blank, error)
            raise
    return _not_refused(blank, case)


def _refused(blank: CheckRecord, error: UsageError) -> CaseResult:
    return CaseResult(replace(blank, verdict="passed", message=f"Refused: {error.asked}"))


def _not_refused(blank: CheckRecord, case: Case | TowerCase) -> CaseResult:
    return CaseResult(replace(blank, verdict="failed", message=f"It ran; {case.refusal.__name__} was promised."))


def _unguarded_answer(setup: CheckSetup, run: CallRun) -> str:
    """What is wrong with the graph's own answer to a position outside its table, as any other program would get it.

    "" if it is NaN, or an error; or if this runtime cannot be asked without the checks that we put before it. Angles
    that are computed at run time have no table to leave, and a fused attention that counts takes no positions.
    """
    ask, manifest = getattr(setup.runtime, "unguarded", None), setup.manifest
    tabulated = any(rotation.cos_sin != "computed" for rotation in manifest.rotations)
    if ask is None or not tabulated or not manifest.limits.prompt_positions:
        return ""
    try:
        result = ask(run.feeds)[manifest.result_name]
    except RuntimeCrashed as error:
        raise _Crash(error) from error
    except VendorError:  # the runtime refuses the position itself: as good as NaN
        return ""
    positions = run.feeds["position_ids"].reshape(-1, *run.feeds["input_ids"].shape)
    outside = (positions < 0) | (positions >= manifest.max_position)
    if np.isnan(result[outside.any(axis=0)]).all():
        return ""
    return (
        f"The graph itself answers position {positions[outside][0]}, which is not in its table, with numbers, those of "
        "another position: it has lost the guard that would make them NaN. In other programs nothing refuses it."
    )


class _Crash(Exception):
    """The runtime did not answer, and not because it refuses such a call."""

    def __init__(self, error: Exception):
        self.ours = isinstance(error, RopeDeployError)
        super().__init__(error.asked if self.ours else _error_text(error))


def _error_text(error: Exception) -> str:
    """Why a case has no verdict on parity. An error that nobody expected is a fault of ours, and no difference."""
    if isinstance(error, MemoryError):
        return "Memory ran out."
    if isinstance(error, RopeDeployError):
        return " ".join(str(error).split())
    fault = InternalFault.of(type(error).__name__, str(error))
    return f"{fault.asked}. No parity was judged: this is a fault in rope-deploy."


def _answer(runtime: Runtime, feeds: Arrays, taps: bool = False) -> Arrays:
    """The runtime's answer. Raises UsageError as it is, and anything else as `_Crash`."""
    try:
        return runtime.run(feeds, taps=taps)
    except UsageError:
        raise
    except Exception as error:
        raise _Crash(error) from error
