"""Compare one call of a tower: every result, and every rotation that can be seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.parity.difference import Difference, missing, worst_element
from rope_deploy.parity.name_by_angles import name_by_angles
from rope_deploy.parity.reference_angles import ObservedRotation
from rope_deploy.parity.site_comparison import SiteComparison, SiteMistake
from rope_deploy.parity.tensor_errors import Tensors


def compare_tower_call(
    manifest: Manifest, got: Tensors, want: Tensors
) -> tuple[tuple[Difference, ...], tuple[SiteComparison, ...], tuple[SiteMistake, ...]]:
    """All differences, results first; the sites that were seen; and the mistakes that have a name.

    `want` is what PyTorch gives, with its taps; {} without PyTorch: then results need only be finite.
    """
    tolerance, sites, named = manifest.tolerances.rotated, [], []
    for site in manifest.sites:
        observed = ObservedRotation.of(manifest, site, got, want)
        if observed is None:
            continue
        one = _compare_site(observed, tolerance)
        sites.append(one)
        if one.wrong and (name := name_by_angles(observed, tolerance)) is not None:
            named.append(SiteMistake(site, *name, error=one.of_kind("oracle").ratio))
    results = tuple(_compare_results(manifest, got, want))
    return (*results, *(difference for one in sites for difference in one.differences)), tuple(sites), tuple(named)


def _compare_site(observed: ObservedRotation, tolerance: float) -> SiteComparison:
    """With the error of each token against PyTorch's own, where that was seen."""
    y, theirs = observed.ours[1], observed.theirs[1] if observed.theirs is not None else None
    errors = np.zeros((0, 0)) if theirs is None else np.abs(y - theirs).max(axis=(1, 3))
    rows = np.broadcast_to(np.arange(y.shape[2]), (y.shape[0], y.shape[2])) if errors.size else errors
    return SiteComparison(
        site=observed.site,
        through="output",
        differences=tuple(observed.differences(tolerance)),
        inputs=None,
        observation=None,
        positions=rows.reshape(-1).astype(np.int64),
        errors=errors.reshape(-1),
        ratios=errors.reshape(-1) / tolerance,
    )


def _compare_results(manifest: Manifest, got: Tensors, want: Tensors) -> Iterator[Difference]:
    """Every result, relative to its largest element if that is above 1; without PyTorch, whether it is finite."""
    tolerance = manifest.tolerances.logits
    for name in (info.name for info in manifest.outputs):
        if name not in got:
            yield missing("logits", name, "the runtime did not return it")
        elif want and name not in want:
            yield missing("logits", name, "PyTorch does not return it")
        else:
            finite = np.where(np.isfinite(got[name]), got[name], 0)
            yield worst_element("logits", name, got[name], want.get(name, finite), tolerance)
