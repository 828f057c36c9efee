"""One call judged: every tensor of it that can be compared, against PyTorch and against the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from rope_deploy.artifact import Manifest, Site
from rope_deploy.errors import quoted
from rope_deploy.parity.case_calls import Call
from rope_deploy.parity.compare import (
    Difference,
    evened,
    largest,
    magnitude,
    missing,
    shape_fault,
    size,
    token_errors,
    worst,
)
from rope_deploy.parity.compare_caches import caches_of, kept
from rope_deploy.parity.compare_sites import Seen, Tensors, see
from rope_deploy.parity.oracle import Oracle
from rope_deploy.parity.run_calls import Pair, Step


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
    """`seen` holds every site that showed; `turned` layers that turn and must not; `flips` tokens of another class.

    `ratios`: in half types, by kind, ln of how much further from the truth tokens are than PyTorch's. `excused`:
    in float32, how far from PyTorch's those tensors are that are further than is fixed, and as near to the truth.
    `no_truth`: why the model in float64 could not be asked where it would have decided; "" if it was, or not needed."""

    differences: tuple[Difference, ...]
    seen: tuple[Seen, ...]
    turned: tuple[Turned, ...]
    flips: tuple[Flip, ...]
    tokens: int
    ratios: Mapping[str, np.ndarray] = field(default_factory=dict)
    excused: tuple[Difference, ...] = ()
    no_truth: str = ""

    @property
    def from_pytorch(self) -> tuple[Difference, ...]:
        """All differences, none of them from the truth in PyTorch's place."""
        names = {(one.kind, one.tensor) for one in self.excused}
        return (*(one for one in self.differences if (one.kind, one.tensor) not in names), *self.excused)


BESIDE_PYTORCH = ("logits", "rotated", "cache")  # kinds of differences that PyTorch's own error has a part in


def judge(pair: Pair, case: str, step: Step) -> Judged:
    """Compare what a runtime gave with what PyTorch gave, if it was asked, and with the oracle.

    In float32 what exceeds a fixed tolerance is judged once more, as half types are (see `parity.chance`): PyTorch is
    as wrong as anybody where a model is ill-conditioned or its logits are large.
    """
    found = _judged(pair, case, step)
    failed = [difference for difference in found.differences if difference.failed]
    doubtful = failed and all(one.kind in BESIDE_PYTORCH and not one.fault for one in failed)
    if failed and not doubtful and step.exactly is not None:
        pair.patience.left = 0  # the fault is known, and shows in what follows
    if not doubtful or step.exactly is None or pair.patience.left <= 0:
        return found
    try:
        step = step.against_truth()
    except Exception as error:  # memory ran out, or the model's own code does not run in float64
        why = "memory ran out." if isinstance(error, MemoryError) else quoted("PyTorch", error)
        return replace(found, no_truth=why)  # nothing excuses anything
    return _excused(found, _judged(pair, case, step))


def _excused(found: Judged, again: Judged) -> Judged:
    """`found`, with differences that failed and are none from the truth in their place."""
    by_name = {(one.kind, one.tensor): one for one in again.differences if not one.failed}

    def best(one: Difference) -> Difference:
        return by_name.get((one.kind, one.tensor), one) if one.failed else one

    def site(one: Seen, other: Seen) -> Seen:
        differences = tuple(map(best, one.differences))
        if differences == one.differences:
            return one
        # What it differs from PyTorch's by is no measure of its own error, and no curve of errors shows it.
        return replace(one, differences=differences, inputs=other.inputs, errors=np.zeros(0), ratios=other.ratios)

    excused = tuple(one for one in found.differences if best(one) is not one)
    seen = tuple(site(one, other) for one, other in zip(found.seen, again.seen, strict=True))
    flips = again.flips if any(one.kind == "logits" for one in excused) else found.flips
    return replace(found, differences=tuple(map(best, found.differences)), seen=seen, flips=flips, excused=excused)


def _judged(pair: Pair, case: str, step: Step) -> Judged:
    manifest, oracle, call, got, want = pair.manifest, pair.oracle, step.call, step.got, step.want
    sites = (see(pair, case, step, site) for site in manifest.sites)
    seen = tuple(one for one in sites if one is not None)
    about_sites = [difference for one in seen for difference in one.differences]
    if not want:
        return Judged((_finite(manifest, call, got), *about_sites, *kept(manifest, step)), seen, (), (), 0)
    # The model as transformers runs it gives its result alone.
    whole, standard = all(name in want for name in manifest.present_names), step.standard
    caches = tuple(caches_of(manifest, oracle, step) if whole else kept(manifest, step))
    turned = tuple(_turned(manifest, oracle, call, caches, got, standard)) if whole else ()
    results = _results(manifest, step)
    # The tolerance of a whole call: of half types each token has its own, and the worst's is what the call allows.
    flips = _flips(got.get(manifest.result_name), standard[manifest.result_name], call.real, results.tolerance)
    differences = (results, *about_sites, *caches)
    if step.chance is not None:
        step.chance.end(explained=not any(difference.failed for difference in differences))
    ratios = {kind: np.concatenate(found) for kind, found in step.ratios.items()}
    return Judged(differences, seen, turned, tuple(flips), int(call.real.sum()), ratios)


def _results(manifest: Manifest, step: Step) -> Difference:
    name, call = manifest.result_name, step.call
    got, want = step.got.get(name), step.standard[name]
    if fault := shape_fault(got, want.shape):
        return missing("logits", name, fault)

    def even(value: np.ndarray) -> np.ndarray:
        return value if step.chance is None else evened(value, want)

    def apart(side: Tensors) -> np.ndarray:
        return token_errors(even(side[name]), even(want), 1)

    errors, fixed = apart(step.got), step.fixed(manifest.tolerances.logits, size(want))
    allowed = step.tolerance("logits", fixed, errors, call.real, lambda: largest(even(want), 1), apart)
    return worst("logits", name, errors, allowed, real=call.real, positions=call.position_ids)


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
