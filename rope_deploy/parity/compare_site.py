"""Compare one site in one call with PyTorch, and with the oracle that rotates the site's own input.

Shapes: B rows, N heads, S tokens in the call, H head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rope_deploy.artifact import Manifest, Site
from rope_deploy.parity.case_inputs import Call
from rope_deploy.parity.difference import Difference, Kind, missing, worst
from rope_deploy.parity.float64_oracle import Oracle
from rope_deploy.parity.name_by_angles import name_by_angles
from rope_deploy.parity.reference_angles import ObservedRotation
from rope_deploy.parity.run_calls import CallRun, CheckSetup
from rope_deploy.parity.site_comparison import SiteComparison
from rope_deploy.parity.site_observation import observe
from rope_deploy.parity.site_view import SiteView, output_errors, reference_errors, view_of
from rope_deploy.parity.tensor_errors import (
    Tensors,
    largest_element,
    largest_elements,
    magnitude,
    rms_errors,
    site_slice,
    token_errors,
)
from rope_deploy.parity.tolerances import (
    POOLED_UP_TO,
    REFERENCE_ANGLES,
    SMALLEST,
    TYPICAL_ROUNDING,
    pooled_excess,
)


def compare_site(setup: CheckSetup, case: str, run: CallRun, site: Site) -> SiteComparison | None:
    """A site against PyTorch and against the oracle; None where the runtime shows nothing of it.

    Where there is no rule for an oracle, the angles by which PyTorch rotated its own input take its place.
    """
    manifest, oracle, call, got, want = setup.manifest, setup.oracle, run.call, run.got, run.want
    if (view := view_of(site, call, got, run.standard)) is None:
        return None
    unrotated, exact, named = got.get(f"unrotated.{site.key}"), None, None
    if unrotated is not None and unrotated.ndim == 4 and oracle.fits(site):
        exact = oracle.rotated(site, unrotated, call.positions_by_axis)
    observed = None
    if exact is None and unrotated is not None:
        observed = _beside_reference(manifest, site, unrotated, got, run.standard)
    if observed is not None:
        exact = observed.by_angles(unknown=np.nan)
    reference = _reference_rotation(oracle, call, site, got, want)
    budgets = 1 if observed is None else REFERENCE_ANGLES
    ours = None if exact is None else _against_oracle(oracle, run, site, view, exact, reference, budgets)
    if run.perturbed is not None and ours is not None and ours.difference.failed:
        run.perturbed.close()
    theirs = _against_reference(manifest, oracle, run, site, view)
    found = [one for one in (theirs, ours) if one is not None]
    ruled = ours is not None and oracle.has_rule(site)
    if observed is not None and ours is not None and ours.difference.failed and view.through == "output":
        named = name_by_angles(observed, manifest.tolerances.rotated, call.real)
    observation = None
    if ruled:
        pooled = None if ours.pooled_error is None else (ours.pooled_error, ours.element_tolerance)
        observation = observe(case, call, site, view, got, exact, ours.tolerance, pooled)
    scale = None if exact is None else magnitude(exact)
    return SiteComparison(
        site=site,
        through=view.through,
        differences=tuple(one.difference for one in found),
        inputs=_compare_inputs(manifest, run, site),
        observation=observation,
        positions=call.position_ids[call.real],
        errors=np.zeros(0) if theirs is None else theirs.errors[call.real],
        ratios=(found[-1].errors / found[-1].tolerance)[call.real] if found else np.zeros(0),
        exactness=(
            float(ours.errors.max() / scale) if ours is not None and view.through == "output" else None,
            None if reference is None or scale is None else float(reference.errors.max() / scale),
        ),
        named=named,
    )


@dataclass(frozen=True)
class _Comparison:
    """The worst token, and errors and tolerances of all tokens [B, S].

    `pooled_error`: where a rotation is a little wrong, the root mean square error of all tokens that would be as usual;
    `element_tolerance` [B, S] is then what one element of each token may be off by.
    """

    difference: Difference
    errors: np.ndarray
    tolerance: np.ndarray
    pooled_error: float | None = None
    element_tolerance: np.ndarray | None = None


def _against_reference(
    manifest: Manifest, oracle: Oracle, run: CallRun, site: Site, view: SiteView
) -> _Comparison | None:
    reference, call = run.standard.get(f"rotated.{site.key}"), run.call
    if reference is None:
        return None
    if (errors := view.errors(reference, "theirs")) is None or errors.shape != call.position_ids.shape:
        return _misshapen("rotated", view.tensor, call, site, run.got[view.tensor], reference.shape)
    slack = oracle.slack(site, reference, call.positions_by_axis) * view.blur
    scale, beyond = magnitude(reference), np.maximum(errors - slack, 0.0)
    fixed = run.fixed(manifest.tolerances.rotated * scale, largest_element(reference))
    tolerance = slack + run.tolerance("rotated", fixed, beyond, call.real, view.largest, view.errors_of)
    return _compared("rotated", view.tensor, call, site, errors / scale, tolerance / scale)


def _against_oracle(
    oracle: Oracle,
    run: CallRun,
    site: Site,
    view: SiteView,
    exact: np.ndarray,
    reference: _ReferenceRotation | None,
    budgets: int,
) -> _Comparison:
    """The site against `exact`, its own input rotated by the oracle. In half types tokens are also judged together: a
    table in bfloat16 or a length off by 0.3 % is within what float16 explains of one element, and not of most."""
    tensor, call = f"oracle.{site.key}", run.call
    if (errors := view.errors(exact, "ours")) is None:
        return _misshapen("oracle", tensor, call, site, run.got[view.tensor], exact.shape)
    if errors.shape != call.position_ids.shape:  # the axes of its tensor are in another order than the manifest says
        rows, tokens = call.position_ids.shape
        expected = rows, exact.shape[1], tokens, exact.shape[3]
        return _misshapen("oracle", tensor, call, site, run.got[view.tensor], expected)
    finite = np.isfinite(exact).all(axis=(1, 3))  # of an input that is NaN, no output can be asked
    own_errors = None if reference is None else reference.errors
    budget = budgets * oracle.budget(site, exact, call.positions_by_axis, own_errors)
    found = _compared("oracle", tensor, call, site, np.where(finite, errors, 0.0), budget * view.blur)
    rotated = run.got[view.tensor]
    if run.perturbed is None or reference is None or view.through != "output" or rotated.shape != exact.shape:
        return found
    ours, theirs = rms_errors(rotated, exact, 2), rms_errors(reference.rotated, reference.exact, 2)
    typical_rounding = largest_elements(exact, 2) * run.unit * TYPICAL_ROUNDING
    excess, pooled_error = pooled_excess(ours, theirs, typical_rounding, call.real & finite)
    if pooled_error is None or found.difference.ratio > POOLED_UP_TO:
        return found
    narrow = np.maximum(found.errors / max(excess, found.difference.ratio), SMALLEST)
    together = _compared("oracle", tensor, call, site, found.errors, narrow)
    return replace(together, pooled_error=pooled_error, element_tolerance=found.tolerance)


def _compared(
    kind: Kind, tensor: str, call: Call, site: Site, errors: np.ndarray, tolerance: np.ndarray
) -> _Comparison:
    errors = np.where(call.real, errors, 0.0)  # padding may hold anything
    about = {"positions": call.position_ids, "layer": site.layer, "role": site.role}
    return _Comparison(worst(kind, tensor, errors, tolerance, real=call.real, **about), errors, tolerance)


def _misshapen(
    kind: Kind, tensor: str, call: Call, site: Site, value: np.ndarray, expected: tuple[int, ...]
) -> _Comparison:
    difference = missing(kind, tensor, f"shape {value.shape} where {expected} was due", site.layer, site.role)
    shape = call.position_ids.shape
    return _Comparison(difference, np.full(shape, np.inf), np.ones(shape))


@dataclass(frozen=True)
class _ReferenceRotation:
    """What PyTorch made of its own input and what the oracle makes of it, [B, N, S, H], and the errors [B, S]."""

    rotated: np.ndarray
    exact: np.ndarray
    errors: np.ndarray


def _reference_rotation(
    oracle: Oracle, call: Call, site: Site, got: Tensors, want: Tensors
) -> _ReferenceRotation | None:
    """PyTorch's own rotation of a site; None where it was not seen."""
    given, rotated = want.get(f"unrotated.{site.key}"), want.get(f"rotated.{site.key}")
    ours = got.get(f"unrotated.{site.key}")
    if given is None or rotated is None or ours is None or not oracle.fits(site):
        return None
    if (part := site_slice(given, site, ours)) is None:
        return None
    if (exact := oracle.rotated(site, given[..., part], call.positions_by_axis)) is None:
        return None
    rotated = rotated[..., part]
    return _ReferenceRotation(rotated, exact, np.where(call.real, token_errors(rotated, exact, 2), 0.0))


def _beside_reference(
    manifest: Manifest, site: Site, unrotated: np.ndarray, got: Tensors, want: Tensors
) -> ObservedRotation | None:
    """A site without a rule, beside PyTorch's own rotation; None where that was not seen."""
    given, rotated = (want.get(f"{state}.{site.key}") for state in ("unrotated", "rotated"))
    rotation = next(one for one in manifest.rotations if one.name == site.rotation)
    if given is None or rotated is None or given.shape != rotated.shape or not rotation.rotary_dim:
        return None
    if (part := site_slice(given, site, unrotated)) is None:
        return None
    ours = unrotated, got.get(f"rotated.{site.key}", unrotated)
    return ObservedRotation(site, rotation, ours, (given[..., part], rotated[..., part]))


def _compare_inputs(manifest: Manifest, run: CallRun, site: Site) -> Difference | None:
    """The input of the site against that of PyTorch's rotation; None where either was not seen."""
    key, call = f"unrotated.{site.key}", run.call
    ours, theirs = run.got.get(key), run.standard.get(key)
    if ours is None or theirs is None or (errors := output_errors(ours, theirs, site)) is None:
        return None

    def errors_of(answer: Tensors) -> np.ndarray:
        return reference_errors(ours, answer[key], theirs, site)

    scale = magnitude(theirs)
    fixed = run.fixed(manifest.tolerances.rotated * scale, largest_element(theirs))
    allowed = run.tolerance("inputs", fixed, errors, call.real, lambda: largest_elements(theirs, 2), errors_of)
    about = {"real": call.real, "positions": call.position_ids, "layer": site.layer, "role": site.role}
    return worst("inputs", key, errors / scale, allowed / scale, **about)
