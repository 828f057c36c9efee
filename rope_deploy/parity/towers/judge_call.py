"""One call of a tower judged: every result, and every rotation that could be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rope_deploy.artifact import Manifest, Site
from rope_deploy.parity.compare import Difference, missing
from rope_deploy.parity.compare_sites import Seen
from rope_deploy.parity.towers.compare_sites import Tensors, Turn, apart
from rope_deploy.parity.towers.name_mistake import name_of


@dataclass(frozen=True)
class Named:
    """A site in error, the code of its mistake and a sentence about it."""

    site: Site
    code: str
    words: str
    error: float


def judge_tower(
    manifest: Manifest, got: Tensors, want: Tensors
) -> tuple[tuple[Difference, ...], tuple[Seen, ...], tuple[Named, ...]]:
    """All differences, results first; the sites that were seen; and the mistakes that have a name.

    `want` is what PyTorch gives, with its taps; {} without PyTorch: then results need only be numbers.
    """
    tolerance, seen, named = manifest.tolerances.rotated, [], []
    for site in manifest.sites:
        turn = Turn.of(manifest, site, got, want)
        if turn is None:
            continue
        one = _seen(turn, tolerance)
        seen.append(one)
        if one.wrong and (name := name_of(turn, tolerance)) is not None:
            named.append(Named(site, *name, error=one.of_kind("oracle").ratio))
    results = tuple(_results(manifest, got, want))
    return (*results, *(d for one in seen for d in one.differences)), tuple(seen), tuple(named)


def _seen(turn: Turn, tolerance: float) -> Seen:
    """With the error of each token, PyTorch's own or its angles' being what it is measured by."""
    y, judged = turn.ours[1], turn.theirs[1] if turn.theirs is not None else None
    errors = np.zeros((0, 0)) if judged is None else np.abs(y - judged).max(axis=(1, 3))
    rows = np.broadcast_to(np.arange(y.shape[2]), (y.shape[0], y.shape[2])) if errors.size else errors
    return Seen(
        site=turn.site,
        how="output",
        differences=tuple(turn.differences(tolerance)),
        inputs=None,
        observation=None,
        positions=rows.reshape(-1).astype(np.int64),
        errors=errors.reshape(-1),
        ratios=errors.reshape(-1) / tolerance,
    )


def _results(manifest: Manifest, got: Tensors, want: Tensors) -> Iterator[Difference]:
    """Every result, relative to its largest element if that is above 1; without PyTorch, whether it is numbers."""
    tolerance = manifest.tolerances.logits
    for name in (info.name for info in manifest.outputs):
        if name not in got:
            yield missing("logits", name, "the runtime did not return it")
        elif want and name not in want:
            yield missing("logits", name, "PyTorch does not return it")
        else:
            numbers = np.where(np.isfinite(got[name]), got[name], 0)
            yield apart("logits", name, got[name], want.get(name, numbers), tolerance)
