"""One call judged: every tensor of it that can be compared, against PyTorch and against the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rope_deploy.artifact import Manifest, Site
from rope_deploy.parity.caches import caches_of, kept
from rope_deploy.parity.calls import Call
from rope_deploy.parity.compare import Difference, magnitude, missing, shape_fault, token_errors, worst
from rope_deploy.parity.oracle import Oracle
from rope_deploy.parity.sites import Seen, Tensors, see
from rope_deploy.parity.walk import Pair, Step


@dataclass(frozen=True)
class Turned:
    """A layer without a site whose new keys are PyTorch's, turned by one of the manifest's rotations."""

    layer: int
    rotation: str
    difference: Difference
    residual: float


@dataclass(frozen=True)
class Flip:
    """A token whose most likely class is another. PyTorch's first lies `margin` before the class chosen instead.

    What stays within the tolerance of logits can turn a margin of twice that: such a near tie proves nothing.
    """

    margin: float
    near_tie: bool


@dataclass(frozen=True)
class Judged:
    """`seen` holds every site that showed; `turned` layers that turn and must not; `flips` tokens of another class."""

    differences: tuple[Difference, ...]
    seen: tuple[Seen, ...]
    turned: tuple[Turned, ...]
    flips: tuple[Flip, ...]
    tokens: int


def judge(pair: Pair, case: str, step: Step) -> Judged:
    """Compare what a runtime gave with what PyTorch gave, if it was asked, with the oracle, or with the invariants."""
    manifest, oracle, call, got, want = pair.manifest, pair.oracle, step.call, step.got, step.want
    sites = (see(pair, case, step, site) for site in manifest.sites)
    seen = tuple(one for one in sites if one is not None)
    about_sites = [difference for one in seen for difference in one.differences]
    about_sites += _scores(pair, call, got)
    if not want:
        return Judged((_finite(manifest, call, got), *about_sites, *kept(manifest, step)), seen, (), (), 0)
    caches = tuple(caches_of(manifest, oracle, step))
    turned = tuple(_turned(manifest, oracle, call, caches, got, want))
    flips = _flips(got.get(manifest.result_name), want[manifest.result_name], call.real, manifest.tolerances.logits)
    differences = (_results(manifest, call, got, want), *about_sites, *caches)
    return Judged(differences, seen, turned, tuple(flips), int(call.real.sum()))


def _scores(pair: Pair, call: Call, got: Tensors) -> Iterator[Difference]:
    """Layers that no oracle can judge: do their scores depend on the difference of the positions alone?"""
    blind = {site.layer for site in pair.manifest.sites if not pair.oracle.fits(site)}
    for layer in sorted(blind):
        names = {role: (f"unrotated.{layer}.{role}", f"rotated.{layer}.{role}") for role in "qk"}
        if all(name in got for both in names.values() for name in both):
            turns = {role: (got[before], got[after]) for role, (before, after) in names.items()}
            yield from pair.invariants.of_scores(layer, call, turns)


def _results(manifest: Manifest, call: Call, got: Tensors, want: Tensors) -> Difference:
    name = manifest.result_name
    if fault := shape_fault(got.get(name), want[name].shape):
        return missing("logits", name, fault)
    errors = token_errors(got[name], want[name], 1)
    return worst("logits", name, errors, manifest.tolerances.logits, real=call.real, positions=call.position_ids)


def _finite(manifest: Manifest, call: Call, got: Tensors) -> Difference:
    """All that can be said of results alone."""
    name = manifest.result_name
    value = got.get(name)
    if value is None or value.shape[:2] != call.input_ids.shape:
        return missing("logits", name, shape_fault(value, (*call.input_ids.shape, "…")))
    errors = np.where(np.isfinite(value).all(axis=-1), 0.0, np.inf)
    return worst("logits", name, errors, manifest.tolerances.logits, real=call.real, positions=call.position_ids)


def _turned(
    manifest: Manifest, oracle: Oracle, call: Call, caches: tuple[Difference, ...], got: Tensors, want: Tensors
) -> Iterator[Turned]:
    """Layers without any rotation whose keys differ as if they had one. Its q cannot be seen: nothing marks it."""
    rotating, tokens = {site.layer for site in manifest.sites if site.role == "k"}, call.tokens
    for difference in caches:
        layer = difference.layer
        if not difference.failed or difference.role != "key" or layer in rotating or difference.fault:
            continue
        ours, theirs = (side[difference.tensor][:, :, -tokens:] for side in (got, want))
        scale = magnitude(theirs)
        for rotation in manifest.rotations:
            site = Site(layer, "k", rotation.name, theirs.shape[1], theirs.shape[3], "BNSH", None, None)
            if not oracle.fits(site) or (expected := oracle.rotated(site, theirs, call.places)) is None:
                continue
            errors = np.where(call.real, token_errors(ours, expected, 2), 0.0).max() / scale
            if errors <= manifest.tolerances.rotated:
                yield Turned(layer, rotation.name, difference, float(errors / manifest.tolerances.rotated))
                break


def _flips(got: np.ndarray | None, want: np.ndarray, real: np.ndarray, tolerance: float) -> Iterator[Flip]:
    """Real tokens whose most likely class differs."""
    if got is None or got.shape != want.shape:
        return
    ours, theirs = got[real].argmax(-1), want[real].argmax(-1)
    for token in np.flatnonzero(ours != theirs):
        logits = want[real][token].astype(np.float64)
        margin = float(logits[theirs[token]] - logits[ours[token]])
        yield Flip(margin, margin <= 2 * tolerance)
