"""One site in one call: what was seen of it, what it was compared with, and what a diagnosis may use.

Shapes: B rows, N heads, S tokens in the call, H head_dim, T columns of the mask so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from rope_deploy.artifact import Manifest, Site
from rope_deploy.parity.calls import Call
from rope_deploy.parity.compare import (
    Difference,
    Kind,
    like_site,
    magnitude,
    missing,
    product_errors,
    product_gaps,
    site_end,
    token_errors,
    worst,
)
from rope_deploy.parity.diagnosis import Observation
from rope_deploy.parity.oracle import Oracle
from rope_deploy.parity.walk import Pair, Step
from rope_deploy.runtimes import compact

Tensors = Mapping[str, np.ndarray]

KEPT_HEADS = 8  # of each site, for the diagnosis


@dataclass(frozen=True)
class Seen:
    """A site in one call. `how`: "output" (its tensor) or "products" (q·k of a fused attention).

    `differences` are what the case is judged by; `inputs` compares what the site was given with what PyTorch's was
    (None where PyTorch's is not known), which is no fault of the site. `observation` is None where no oracle could
    be asked. `positions`, `errors` and `ratios` [real tokens] hold the difference from PyTorch, and the error in
    units of its tolerance: against the oracle if there is one, else against PyTorch. `exactness`: the largest error
    against the oracle relative to the largest element, ours and PyTorch's own; None where it is not known.
    """

    site: Site
    how: str
    differences: tuple[Difference, ...]
    inputs: Difference | None
    observation: Observation | None
    positions: np.ndarray
    errors: np.ndarray
    ratios: np.ndarray
    exactness: tuple[float | None, float | None] = (None, None)

    def of_kind(self, kind: str) -> Difference | None:
        return next((difference for difference in self.differences if difference.kind == kind), None)

    @property
    def wrong(self) -> bool:
        """In error against the oracle."""
        found = self.of_kind("oracle")
        return found is not None and found.failed


@dataclass(frozen=True)
class View:
    """How a site is seen. `errors(reference, side)` compares it with a reference [B, N, S, H]: [B, S], or None where
    the shapes do not fit; `side` says whose keys go with that reference, "theirs" (PyTorch's) or "ours".

    `blur`: how large an error of 1 in every element of q and k may look (1 when the tensor itself is seen).
    """

    how: str
    tensor: str
    errors: Callable[[np.ndarray, str], np.ndarray | None]
    blur: float = 1.0


def see(pair: Pair, case: str, step: Step, site: Site) -> Seen | None:
    """A site against PyTorch, and against the oracle that turns the site's own input; None where nothing is seen.

    Where there is no rule to make an oracle of, what holds of every rotation takes its place.
    """
    manifest, oracle, call, got, want = pair.manifest, pair.oracle, step.call, step.got, step.want
    if (view := _view(site, call, got, want)) is None:
        return None
    unrotated, exact = got.get(f"unrotated.{site.key}"), None
    if unrotated is not None and unrotated.ndim == 4 and oracle.fits(site):
        exact = oracle.rotated(site, unrotated, call.places)
    own = _own_error(oracle, call, site, got, want)
    theirs = _against_pytorch(manifest, oracle, call, site, view, got, want)
    ours = None if exact is None else _against_oracle(oracle, call, site, view, got, exact, own)
    against = [one for one in (theirs, ours) if one is not None]
    invariants, whole = [], view.how == "output" and unrotated is not None
    if whole and not oracle.fits(site) and unrotated.shape == got[view.tensor].shape:
        invariants += pair.invariants.of_site(site, call, unrotated, got[view.tensor])
    scale = None if exact is None else magnitude(exact)
    return Seen(
        site=site,
        how=view.how,
        differences=(*(one.difference for one in against), *invariants),
        inputs=_inputs(manifest, call, site, got, want),
        observation=None if ours is None else _observation(case, call, site, view, got, exact, ours.tolerance),
        positions=call.position_ids[call.real],
        errors=np.zeros(0) if theirs is None else theirs.errors[call.real],
        ratios=(against[-1].errors / against[-1].tolerance)[call.real] if against else np.zeros(0),
        exactness=(
            float(ours.errors.max() / scale) if ours is not None and view.how == "output" else None,
            None if own is None or scale is None else float(np.where(call.real, own, 0.0).max() / scale),
        ),
    )


@dataclass(frozen=True)
class _Against:
    """One comparison: the worst token, and errors and tolerances of all [B, S]; none where the shapes do not fit."""

    difference: Difference
    errors: np.ndarray
    tolerance: np.ndarray


def _against_pytorch(
    manifest: Manifest, oracle: Oracle, call: Call, site: Site, view: View, got: Tensors, want: Tensors
) -> _Against | None:
    reference = want.get(f"rotated.{site.key}")
    if reference is None:
        return None
    if (errors := view.errors(reference, "theirs")) is None:
        return _ill_shaped("rotated", view.tensor, call, site, got[view.tensor], reference)
    scale = magnitude(reference)
    tolerance = oracle.slack(site, reference, call.places) * view.blur / scale + manifest.tolerances.rotated
    return _judged("rotated", view.tensor, call, site, errors / scale, tolerance)


def _against_oracle(
    oracle: Oracle, call: Call, site: Site, view: View, got: Tensors, exact: np.ndarray, own: np.ndarray | None
) -> _Against:
    tensor = f"oracle.{site.key}"
    if (errors := view.errors(exact, "ours")) is None:
        return _ill_shaped("oracle", tensor, call, site, got[view.tensor], exact)
    given = np.isfinite(exact).all(axis=(1, 3))  # of what came in as no number, nothing can be asked
    tolerance, errors = oracle.budget(site, exact, call.places, own) * view.blur, np.where(given, errors, 0.0)
    return _judged("oracle", tensor, call, site, errors, tolerance)


def _judged(kind: Kind, tensor: str, call: Call, site: Site, errors: np.ndarray, tolerance: np.ndarray) -> _Against:
    errors = np.where(call.real, errors, 0.0)  # padding may hold anything
    about = {"positions": call.position_ids, "layer": site.layer, "role": site.role}
    return _Against(worst(kind, tensor, errors, tolerance, real=call.real, **about), errors, tolerance)


def _ill_shaped(kind: Kind, tensor: str, call: Call, site: Site, value: np.ndarray, reference: np.ndarray) -> _Against:
    difference = missing(kind, tensor, f"shape {value.shape} where {reference.shape} was due", site.layer, site.role)
    shape = call.position_ids.shape
    return _Against(difference, np.full(shape, np.inf), np.ones(shape))


def _own_error(oracle: Oracle, call: Call, site: Site, got: Tensors, want: Tensors) -> np.ndarray | None:
    """How far PyTorch is from the oracle that turns PyTorch's own input: [B, S]; None where that was not seen."""
    given, turned, ours = (
        want.get(f"unrotated.{site.key}"),
        want.get(f"rotated.{site.key}"),
        got.get(f"unrotated.{site.key}"),
    )
    if given is None or turned is None or ours is None or not oracle.fits(site):
        return None
    if (end := site_end(given, site, ours)) is None:
        return None
    exact = oracle.rotated(site, given[..., end], call.places)
    return None if exact is None else np.where(call.real, token_errors(turned[..., end], exact, 2), 0.0)


def _view(site: Site, call: Call, got: Tensors, want: Tensors) -> View | None:
    name = f"rotated.{site.key}"
    if name in got:
        return View("output", name, lambda reference, _: _direct(got[name], reference, site))
    name, cache = f"products.{site.layer}", f"present.{site.layer}.key"
    if site.role != "q" or site.turn or name not in got:
        return None
    keys = {"ours": got[cache]}
    if cache in want:
        keys["theirs"] = compact(want[cache], call.attention_mask)
    sees = _sees(call)
    blur = 2 * float(np.sqrt(site.head_dim))  # along a key, of q and of k
    return View("products", name, lambda query, side: product_errors(got[name], query, keys[side], sees), blur)


def _sees(call: Call) -> np.ndarray:
    """[B, S, T]: which rows of a compact cache each query looks at."""
    mask, tokens = call.attention_mask, call.tokens
    columns = np.broadcast_to(np.arange(mask.shape[1]), mask.shape)
    last = mask.shape[1] - tokens + np.arange(tokens)
    return (compact(mask, mask) == 1)[:, None, :] & (compact(columns, mask)[:, None, :] <= last[:, None])


def _direct(ours: np.ndarray, reference: np.ndarray, site: Site) -> np.ndarray | None:
    # PyTorch's function may have been given nothing but what turns, our site the whole head with what follows it.
    width = min(site.head_dim, reference.shape[-1])
    ours = ours[..., :width]
    fitted = like_site(reference, replace(site, head_dim=width), ours)
    return None if fitted is None else token_errors(np.broadcast_to(ours, fitted.shape), fitted, 2)


def _inputs(manifest: Manifest, call: Call, site: Site, got: Tensors, want: Tensors) -> Difference | None:
    """Was the site given what PyTorch's rotation was given?"""
    key = f"unrotated.{site.key}"
    ours, theirs = got.get(key), want.get(key)
    if ours is None or theirs is None or (errors := _direct(ours, theirs, site)) is None:
        return None
    about = {"real": call.real, "positions": call.position_ids, "layer": site.layer, "role": site.role}
    return worst("inputs", key, errors / magnitude(theirs), manifest.tolerances.rotated, **about)


def _observation(
    case: str, call: Call, site: Site, view: View, got: Tensors, exact: np.ndarray, budget: np.ndarray
) -> Observation | None:
    """The evidence of one site; None where its shapes do not fit. Of many heads it keeps the worst and others."""
    unrotated = got[f"unrotated.{site.key}"]
    if view.how == "output":
        rotated = got[view.tensor]
        if rotated.shape != unrotated.shape:
            return None
        heads = _heads(np.where(call.real[:, None, :, None], np.abs(rotated - exact), 0.0).max(axis=(0, 2, 3)))
        unrotated, rotated = unrotated[:, heads], rotated[:, heads]
        errors = partial(_apart, rotated)
    else:
        keys, products, sees = got[f"present.{site.layer}.key"], got[view.tensor], _sees(call)
        heads, group = (
            _heads(product_gaps(products, exact, keys, sees).max(axis=(0, 2))),
            site.num_heads // keys.shape[1],
        )
        unrotated, rotated, products = unrotated[:, heads], None, products[:, heads]
        keys = keys if isinstance(heads, slice) else keys[:, np.asarray(heads) // group]
        errors = partial(_products_apart, products, keys, sees)
    return Observation(
        case=case,
        site=site,
        unrotated=unrotated,
        rotated=rotated,
        positions=call.position_ids,
        axes=call.axes,
        mask=call.attention_mask,
        real=call.real,
        budget=budget,
        errors=errors,
    )


def _heads(errors: np.ndarray) -> slice | list[int]:
    """All heads if they are few, else the worst and a spread of others, in order. errors [N]."""
    if len(errors) <= KEPT_HEADS:
        return slice(None)
    first = int(np.nan_to_num(errors, nan=np.inf).argmax())
    spread = np.linspace(0, len(errors) - 1, KEPT_HEADS).round().astype(int).tolist()
    return sorted({first, *[head for head in spread if head != first][: KEPT_HEADS - 1]})


def _apart(rotated: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    return token_errors(rotated, prediction, 2)


def _products_apart(products: np.ndarray, keys: np.ndarray, sees: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    return product_errors(products, prediction, keys, sees)
