"""All calls of a check together: is a graph in a half type on the whole as near to the truth as PyTorch's half run?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.parity.findings import CaseResult
from rope_deploy.parity.rounding_chance import limit
from rope_deploy.results.records import CheckRecord

CASE = "half-precision"
WORDS = {"logits": "logits", "rotated": "rotated q and k", "cache": "cache"}


def on_the_whole(manifest: Manifest, runtime: str, results: Sequence[CaseResult]) -> CheckRecord:
    """A record of its own, after those of the cases. What is too little to show in one call shows in all together."""
    tokens = max(1, sum(result.tokens for result in results))
    allowed, shifts = limit(tokens), dict(_shifts(results))
    failed = {kind: shift for kind, shift in shifts.items() if not shift <= allowed}
    told = ", ".join(f"{shift:.2f} times ({WORDS[kind]})" for kind, shift in (failed or shifts).items())
    message = (
        f"{'Too far from' if failed else 'As near to'} the model in float32{'' if failed else ' as it should be'}: "
        f"its errors are {told} those of PyTorch in {manifest.dtype}, in the geometric mean of {tokens} tokens; "
        f"up to {allowed:.2f} times is chance."
    )
    verdict = "failed" if failed else "passed"
    detail = f"errors on the whole, in units of PyTorch's own in {manifest.dtype}"
    return CheckRecord(manifest.style, runtime, CASE, detail, verdict, None, message, 0.0)


def _shifts(results: Sequence[CaseResult]) -> Iterator[tuple[str, float]]:
    """How many times as far from the truth, by kind."""
    for kind in WORDS:
        found = [call[kind] for result in results for call in result.ratios if len(call.get(kind, ()))]
        if found:
            yield kind, float(np.exp(np.concatenate(found).mean()))
