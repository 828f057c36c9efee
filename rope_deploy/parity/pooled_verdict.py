"""The verdict on all calls together: is a graph in a half type as near to the truth as PyTorch in that type?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.parity.case_result import CaseResult
from rope_deploy.parity.tolerances import chance_bound
from rope_deploy.results.records import CheckRecord

CASE = "half-precision"
KIND_TEXT = {"logits": "logits", "rotated": "rotated q and k", "cache": "cache"}


def pooled_verdict(manifest: Manifest, runtime: str, results: Sequence[CaseResult]) -> CheckRecord:
    """A record after those of the cases: an error too small to show in one call shows in all together."""
    tokens = max(1, sum(result.tokens for result in results))
    allowed, shifts = chance_bound(tokens), dict(_shifts(results))
    failed = {kind: shift for kind, shift in shifts.items() if not shift <= allowed}
    times = ", ".join(f"{shift:.2f} times ({KIND_TEXT[kind]})" for kind, shift in (failed or shifts).items())
    message = (
        f"{'Too far from' if failed else 'As near to'} the model in float32{'' if failed else ' as it should be'}: "
        f"its errors are {times} those of PyTorch in {manifest.dtype}, in the geometric mean of {tokens} tokens; "
        f"up to {allowed:.2f} times is chance."
    )
    verdict = "failed" if failed else "passed"
    detail = f"errors on the whole, in units of PyTorch's own in {manifest.dtype}"
    return CheckRecord(manifest.style, runtime, CASE, detail, verdict, None, message, 0.0)


def _shifts(results: Sequence[CaseResult]) -> Iterator[tuple[str, float]]:
    """How many times as far from the truth as PyTorch's the tensors of each kind are."""
    for kind in KIND_TEXT:
        found = [call[kind] for result in results for call in result.ratios if len(call.get(kind, ()))]
        if found:
            yield kind, float(np.exp(np.concatenate(found).mean()))
