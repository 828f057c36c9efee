"""Where the errors lie: curves by position, and maps by layer and position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.parity.site_comparison import SiteComparison
from rope_deploy.results.records import ErrorCurve, ErrorMap

BINS = 32  # columns of a map


def error_curves(manifest: Manifest, runtime: str, sites: Iterable[SiteComparison]) -> Iterator[ErrorCurve]:
    """The largest difference from PyTorch at each position, by role."""
    largest: dict[str, dict[int, float]] = {}
    for one in sites:
        if one.errors.size:
            _keep_largest(largest.setdefault(one.site.role, {}), one.positions, one.errors)
    for role, at in sorted(largest.items()):
        positions = tuple(sorted(at))
        errors = tuple(at[position] for position in positions)
        yield ErrorCurve(manifest.style, runtime, role, positions, errors, manifest.tolerances.rotated)


def error_maps(manifest: Manifest, runtime: str, sites: Iterable[SiteComparison]) -> Iterator[ErrorMap]:
    """By role: the largest error of each layer in each range of positions, named by its first. nan: not seen."""
    largest: dict[str, dict[int, dict[int, float]]] = {}
    for one in sites:
        if one.ratios.size:
            layers = largest.setdefault(one.site.role, {})
            _keep_largest(layers.setdefault(one.site.layer, {}), one.positions, one.ratios)
    for role, layers in sorted(largest.items()):
        occurred = sorted({position for at in layers.values() for position in at})
        bins = np.array_split(occurred, min(BINS, len(occurred)))
        errors = tuple(
            tuple(max((at[p] for p in part.tolist() if p in at), default=float("nan")) for part in bins)
            for _, at in sorted(layers.items())
        )
        yield ErrorMap(manifest.style, runtime, role, tuple(sorted(layers)), tuple(int(b[0]) for b in bins), errors)


def _keep_largest(at: dict[int, float], positions: np.ndarray, errors: np.ndarray) -> None:
    for position, error in zip(positions.tolist(), errors.tolist(), strict=True):
        at[position] = max(error, at.get(position, 0.0))
