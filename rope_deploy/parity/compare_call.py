"""Compare one call: every tensor of it that can be compared, with PyTorch's and with the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from rope_deploy.artifact import Manifest, Site
from rope_deploy.errors import quoted
from rope_deploy.parity.case_inputs import Call
from rope_deploy.parity.compare_caches import compare_caches, compare_kept_rows
from rope_deploy.parity.compare_site import compare_site
from rope_deploy.parity.difference import Difference, missing, shape_fault, worst
from rope_deploy.parity.float64_oracle import Oracle
from rope_deploy.parity.run_calls import CallRun, CheckSetup
from rope_deploy.parity.site_comparison import SiteComparison
from rope_deploy.parity.tensor_errors import (
    Tensors,
    evened_by_median,
    largest_element,
    largest_elements,
    magnitude,
    token_errors,
)
from rope_deploy.parity.tolerances import is_near_tie


@dataclass(frozen=True)
class UnlistedRotation:
    """A layer without a site whose new keys are PyTorch's, rotated by one of the manifest's rotations."""

    layer: int
    rotation: str
    difference: Difference
    residual: float


@dataclass(frozen=True)
class Flip:
    """A token whose most likely class is not PyTorch's. `margin`: by how much PyTorch prefers its own."""

    margin: float
    near_tie: bool


@dataclass(frozen=True)
class CallComparison:
    """All of one call. `sites` are those that were seen; `unlisted` layers are rotated and must not be; `flips` are the
    tokens with another most likely class.

    `ratios`: in half types, by kind, ln of how much further from the truth tokens are than PyTorch's. `excused`: in
    float32, the differences from PyTorch that exceed their fixed tolerance, of tensors that are as near to the truth as
    PyTorch's. `no_truth`: why the model in float64 could not be asked where it would have decided; "" if it was, or
    was not needed.
    """

    differences: tuple[Difference, ...]
    sites: tuple[SiteComparison, ...]
    unlisted: tuple[UnlistedRotation, ...]
    flips: tuple[Flip, ...]
    tokens: int
    ratios: Mapping[str, np.ndarray] = field(default_factory=dict)
    excused: tuple[Difference, ...] = ()
    no_truth: str = ""

    @property
    def from_pytorch(self) -> tuple[Difference, ...]:
        """All differences, also those of excused tensors measured from PyTorch and not from the truth."""
        names = {(one.kind, one.tensor) for one in self.excused}
        return (*(one for one in self.differences if (one.kind, one.tensor) not in names), *self.excused)


BESIDE_PYTORCH = ("logits", "rotated", "cache")  # kinds of differences that PyTorch's own error has a part in


def compare_call(setup: CheckSetup, case: str, run: CallRun) -> CallComparison:
    """Compare a runtime's answer with PyTorch's, if there is one, and with the oracle.

    In float32 what exceeds a fixed tolerance is compared once more with the truth (see `tolerances.py`, 3). Where the
    truth cannot be asked, nothing is excused and `no_truth` says why.
    """
    found = _compare(setup, case, run)
    failed = [difference for difference in found.differences if difference.failed]
    doubtful = failed and all(one.kind in BESIDE_PYTORCH and not one.fault for one in failed)
    if failed and not doubtful and run.ask_truth is not None:
        setup.patience.left = 0  # the fault is known, and later calls show it too
    if not doubtful or run.ask_truth is None or setup.patience.left <= 0:
        return found
    try:
        run = run.against_truth()
    except Exception as error:  # memory ran out, or the model's own code does not run in float64
        why = "memory ran out." if isinstance(error, MemoryError) else quoted("PyTorch", error)
        return replace(found, no_truth=why)
    return _excused(found, _compare(setup, case, run))


def _excused(found: CallComparison, again: CallComparison) -> CallComparison:
    """`found`, each failed difference replaced by that of the same tensor from the truth, if that has passed."""
    by_name = {(one.kind, one.tensor): one for one in again.differences if not one.failed}

    def best(one: Difference) -> Difference:
        return by_name.get((one.kind, one.tensor), one) if one.failed else one

    def best_of_site(one: SiteComparison, other: SiteComparison) -> SiteComparison:
        differences = tuple(map(best, one.differences))
        if differences == one.differences:
            return one
        # Its difference from PyTorch is no measure of its own error, so it takes no part in the curves of errors.
        return replace(one, differences=differences, inputs=other.inputs, errors=np.zeros(0), ratios=other.ratios)

    excused = tuple(one for one in found.differences if best(one) is not one)
    sites = tuple(best_of_site(one, other) for one, other in zip(found.sites, again.sites, strict=True))
    flips = again.flips if any(one.kind == "logits" for one in excused) else found.flips
    return replace(found, differences=tuple(map(best, found.differences)), sites=sites, flips=flips, excused=excused)


def _compare(setup: CheckSetup, case: str, run: CallRun) -> CallComparison:
    manifest, oracle, call, got, want = setup.manifest, setup.oracle, run.call, run.got, run.want
    compared = (compare_site(setup, case, run, site) for site in manifest.sites)
    sites = tuple(one for one in compared if one is not None)
    of_sites = [difference for one in sites for difference in one.differences]
    if not want:
        kept = compare_kept_rows(manifest, run)
        return CallComparison((_finite_results(manifest, call, got), *of_sites, *kept), sites, (), (), 0)
    # The model as transformers runs it gives its result alone.
    with_cache, standard = all(name in want for name in manifest.present_names), run.standard
    caches = tuple(compare_caches(manifest, oracle, run) if with_cache else compare_kept_rows(manifest, run))
    unlisted = tuple(_unlisted_rotations(manifest, oracle, call, caches, got, standard)) if with_cache else ()
    results = _compare_results(manifest, run)
    # The tolerance of a whole call: of half types each token has its own, and the worst token's is that of the call.
    flips = _flips(got.get(manifest.result_name), standard[manifest.result_name], call.real, results.tolerance)
    differences = (results, *of_sites, *caches)
    if run.perturbed is not None:
        run.perturbed.end(explained=not any(difference.failed for difference in differences))
    ratios = {kind: np.concatenate(parts) for kind, parts in run.ratios.items()}
    return CallComparison(differences, sites, unlisted, tuple(flips), int(call.real.sum()), ratios)


def _compare_results(manifest: Manifest, run: CallRun) -> Difference:
    name, call = manifest.result_name, run.call
    got, want = run.got.get(name), run.standard[name]
    if fault := shape_fault(got, want.shape):
        return missing("logits", name, fault)

    def evened(value: np.ndarray) -> np.ndarray:
        return value if run.perturbed is None else evened_by_median(value, want)

    def errors_of(answer: Tensors) -> np.ndarray:
        return token_errors(evened(answer[name]), evened(want), 1)

    errors, fixed = errors_of(run.got), run.fixed(manifest.tolerances.logits, largest_element(want))
    allowed = run.tolerance("logits", fixed, errors, call.real, lambda: largest_elements(evened(want), 1), errors_of)
    return worst("logits", name, errors, allowed, real=call.real, positions=call.position_ids)


def _finite_results(manifest: Manifest, call: Call, got: Tensors) -> Difference:
    """Whether results are finite, which is all that can be judged of them without PyTorch."""
    name = manifest.result_name
    value = got.get(name)
    if value is None or value.shape[:2] != call.input_ids.shape:
        return missing("logits", name, shape_fault(value, (*call.input_ids.shape, "…")))
    errors = np.where(np.isfinite(value).all(axis=-1), 0.0, np.inf)
    return worst("logits", name, errors, manifest.tolerances.logits, real=call.real, positions=call.position_ids)


def _unlisted_rotations(
    manifest: Manifest, oracle: Oracle, call: Call, caches: tuple[Difference, ...], got: Tensors, want: Tensors
) -> Iterator[UnlistedRotation]:
    """Layers without any site whose keys differ as if they were rotated. Their q cannot be seen: no site names it."""
    rotating, tokens = {site.layer for site in manifest.sites if site.role == "k"}, call.tokens
    for difference in caches:
        layer = difference.layer
        if not difference.failed or difference.role != "key" or layer in rotating or difference.fault:
            continue
        ours, theirs = (side[difference.tensor][:, :, -tokens:] for side in (got, want))
        scale = magnitude(theirs)
        for rotation in manifest.rotations:
            site = Site(layer, "k", rotation.name, theirs.shape[1], theirs.shape[3], "BNSH", None, None)
            if not oracle.fits(site) or (expected := oracle.rotated(site, theirs, call.positions_by_axis)) is None:
                continue
            errors = np.where(call.real, token_errors(ours, expected, 2), 0.0).max() / scale
            if errors <= manifest.tolerances.rotated:
                yield UnlistedRotation(layer, rotation.name, difference, float(errors / manifest.tolerances.rotated))
                break


def _flips(got: np.ndarray | None, want: np.ndarray, real: np.ndarray, tolerance: float) -> Iterator[Flip]:
    """Real tokens whose most likely class differs."""
    if got is None or got.shape != want.shape:
        return
    ours, theirs = got[real].argmax(-1), want[real].argmax(-1)
    for token in np.flatnonzero(ours != theirs):
        logits = want[real][token].astype(np.float64)
        margin = float(logits[theirs[token]] - logits[ours[token]])
        yield Flip(margin, is_near_tie(margin, tolerance))
