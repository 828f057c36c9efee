"""The verdict of one case, decided from its compared calls, and the message that says why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rope_deploy.parity.case_result import CaseResult
from rope_deploy.parity.cases import Case
from rope_deploy.parity.compare_call import CallComparison
from rope_deploy.parity.difference import Difference, nearest_to_cause
from rope_deploy.parity.site_comparison import SiteComparison, SiteMistake
from rope_deploy.results.records import CheckRecord, Worst

EXAMPLES = 3  # tensors that a message names
AS_IT_IS = "the model as transformers runs it"


def case_verdict(
    case: Case, calls: Sequence[CallComparison], rotating: Iterable[str], blank: CheckRecord
) -> CaseResult:
    """The case has failed if any difference exceeds its tolerance. `blank` is the record to fill in."""
    differences = [difference for one in calls for difference in one.differences]
    failed = [difference for difference in differences if difference.failed]
    from_pytorch = [difference for one in calls for difference in one.from_pytorch]
    sites = tuple(site for one in calls for site in one.sites)
    message = _message(failed, calls)
    if case.untouched and failed:
        message = " ".join(part for part in (message, f"Compared with {AS_IT_IS}.") if part)
    record = replace(
        blank,
        verdict="failed" if failed else "passed",
        worst=_worst(max(differences, key=lambda difference: difference.ratio)),
        message=message,
        logits_error=_largest(from_pytorch, "logits"),
        rotated_error=_largest(from_pytorch, "rotated"),
        oracle_error=max((ours for ours, _ in (one.exactness for one in sites) if ours is not None), default=None),
        reference_error=max(
            (theirs for _, theirs in (one.exactness for one in sites) if theirs is not None), default=None
        ),
    )
    return CaseResult(
        record,
        sites=sites,
        differences=tuple(differences),
        unlisted=tuple(found for one in calls for found in one.unlisted),
        rotating=frozenset(rotating),
        ratios=tuple(one.ratios for one in calls),
        tokens=sum(one.tokens for one in calls),
    )


def tower_verdict(
    differences: tuple[Difference, ...],
    sites: tuple[SiteComparison, ...],
    named: tuple[SiteMistake, ...],
    blank: CheckRecord,
) -> CaseResult:
    """The same of the one call of a tower's case."""
    failed = [difference for difference in differences if difference.failed]
    record = replace(
        blank,
        verdict="failed" if failed else "passed",
        worst=_worst(max(differences, key=lambda difference: difference.ratio)),
        message=_failures_text(failed, len(differences)) if failed else "",
        logits_error=_largest(differences, "logits"),
        rotated_error=_largest(differences, "rotated"),
        oracle_error=_largest(differences, "oracle"),
    )
    return CaseResult(record, sites=sites, differences=differences, named=named)


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


def _failures_text(failed: Sequence[Difference], total: int) -> str:
    return f"{nearest_to_cause(failed).text}. {len(failed)} of {total} comparisons failed."


def _message(failed: Sequence[Difference], calls: Sequence[CallComparison]) -> str:
    parts = []
    if failed:
        parts.append(_failures_text(failed, sum(len(one.differences) for one in calls)))
    if excused := dict.fromkeys(difference.tensor for one in calls for difference in one.excused):
        names = ", ".join([*excused][:EXAMPLES])
        names += f" and {len(excused) - EXAMPLES} more" if len(excused) > EXAMPLES else ""
        parts.append(f"Beyond the fixed tolerance, and as near to the model in float64 as PyTorch itself: {names}.")
    if failed and (why := next(filter(None, (one.no_truth for one in calls)), "")):
        parts.append(f"The model in float64, which might have excused it, could not be asked: {why}")
    if flips := _flips_text(calls):
        parts.append(flips)
    return " ".join(parts)


def _flips_text(calls: Sequence[CallComparison]) -> str:
    """About tokens whose most likely class is not PyTorch's; "" if there are none."""
    flips, tokens = [flip for one in calls for flip in one.flips], sum(one.tokens for one in calls)
    if not flips:
        return ""
    wrong = [flip for flip in flips if not flip.near_tie]
    what = "near ties in PyTorch's own logits" if not wrong else f"{len(flips) - len(wrong)} of them near ties"
    margin = max((flip.margin for flip in wrong), default=0.0)
    return f"The most likely token differs at {len(flips)} of {tokens} tokens, {what}" + (
        f"; PyTorch is sure by up to {margin:.2g} at the others." if wrong else "."
    )
