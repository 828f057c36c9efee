"""One site in one call: what was seen of it, what it was compared with, and what a diagnosis may use.

Shapes: B rows, N heads, S tokens in the call, H head_dim, T columns of the mask so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from rope_deploy.artifact import Manifest, Site
from rope_deploy.parity.calls import Call
from rope_deploy.parity.compare import (
    Difference,
    like_site,
    magnitude,
    missing,
    product_errors,
    product_gaps,
    token_errors,
    worst,
)
from rope_deploy.parity.diagnosis import Observation
from rope_deploy.parity.oracle import Oracle
from rope_deploy.runtimes import compact

Tensors = Mapping[str, np.ndarray]

KEPT_HEADS = 8  # of each site, for the diagnosis


@dataclass(frozen=True)
class Seen:
    """A site in one call. `how`: "output" (its tensor) or "products" (q·k of a fused attention).

    `differences` are what the case is judged by; `inputs` compares what the site was given with what PyTorch's was
    (None where PyTorch's is not known), which is no fault of the site. `observation` is None where no oracle could
    be asked. `positions`, `errors` and `ratios` [real tokens] hold the difference from PyTorch, and the error in
    units of its tolerance: against the oracle if there is one, else against PyTorch.
    """

    site: Site
    how: str
    differences: tuple[Difference, ...]
    inputs: Difference | None
    observation: Observation | None
    positions: np.ndarray
    errors: np.ndarray
    ratios: np.ndarray

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


def see(
    manifest: Manifest, oracle: Oracle, case: str, call: Call, site: Site, got: Tensors, want: Tensors
) -> Seen | None:
    """A site against PyTorch, and against the oracle that turns the site's own input; None where nothing is seen."""
    if (view := _view(site, call, got, want)) is None:
        return None
    found, errors, ratios = [], np.zeros(0), np.zeros(0)
    for difference, apart, tolerance in _compared(manifest, oracle, call, site, view, got, want):
        found.append(difference)
        if apart is not None:
            ratios = (apart / tolerance)[call.real]
            errors = apart[call.real] if difference.kind == "rotated" else errors
    return Seen(
        site=site,
        how=view.how,
        differences=tuple(found),
        inputs=_inputs(manifest, call, site, got, want),
        observation=_observation(oracle, case, call, site, view, got),
        positions=call.position_ids[call.real],
        errors=errors,
        ratios=ratios,
    )


def _view(site: Site, call: Call, got: Tensors, want: Tensors) -> View | None:
    name = f"rotated.{site.layer}.{site.role}"
    if name in got:
        return View("output", name, lambda reference, _: _direct(got[name], reference, site))
    name, cache = f"products.{site.layer}", f"present.{site.layer}.key"
    if site.role != "q" or name not in got:
        return None
    keys = {"ours": got[cache], "theirs": compact(want[cache], call.attention_mask)}
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
    fitted = like_site(reference, site, ours)
    return None if fitted is None else token_errors(np.broadcast_to(ours, fitted.shape), fitted, 2)


def _compared(
    manifest: Manifest, oracle: Oracle, call: Call, site: Site, view: View, got: Tensors, want: Tensors
) -> Iterator[tuple[Difference, np.ndarray | None, np.ndarray | None]]:
    """Against PyTorch, then against the oracle; each with its errors and tolerances [B, S]."""
    key, positions = f"{site.layer}.{site.role}", call.position_ids
    about = {"layer": site.layer, "role": site.role}
    for kind, tensor, side in (("rotated", view.tensor, "theirs"), ("oracle", f"oracle.{key}", "ours")):
        if kind == "rotated":
            reference, allowed = want.get(f"rotated.{key}"), oracle.slack
        else:
            unrotated, allowed = got.get(f"unrotated.{key}"), oracle.rounding
            reference = None if unrotated is None else oracle.rotated(site, unrotated, positions)
        if reference is None:
            continue
        errors = view.errors(reference, side)
        if errors is None:
            fault = f"shape {got[view.tensor].shape} where {reference.shape} was due"
            yield missing(kind, tensor, fault, **about), None, None
            continue
        errors = np.where(call.real, errors, 0.0)  # padding may hold anything
        tolerance = allowed(site, reference, positions) * view.blur
        if kind == "rotated":
            scale = magnitude(reference)
            errors, tolerance = errors / scale, tolerance / scale + manifest.tolerances.rotated
        difference = worst(kind, tensor, errors, tolerance, real=call.real, positions=positions, **about)
        yield difference, errors, tolerance


def _inputs(manifest: Manifest, call: Call, site: Site, got: Tensors, want: Tensors) -> Difference | None:
    """Was the site given what PyTorch's rotation was given?"""
    key = f"unrotated.{site.layer}.{site.role}"
    ours, theirs = got.get(key), want.get(key)
    if ours is None or theirs is None or (errors := _direct(ours, theirs, site)) is None:
        return None
    about = {"real": call.real, "positions": call.position_ids, "layer": site.layer, "role": site.role}
    return worst("inputs", key, errors / magnitude(theirs), manifest.tolerances.rotated, **about)


def _observation(oracle: Oracle, case: str, call: Call, site: Site, view: View, got: Tensors) -> Observation | None:
    """The evidence of one site; None where the oracle cannot be asked. Of many heads it keeps the worst and others."""
    unrotated = got.get(f"unrotated.{site.layer}.{site.role}")
    if unrotated is None or unrotated.ndim != 4:
        return None
    exact = oracle.rotated(site, unrotated, call.position_ids)
    if exact is None:
        return None
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
    budget = oracle.rounding(site, exact, call.position_ids) * view.blur
    return Observation(
        case=case,
        site=site,
        unrotated=unrotated,
        rotated=rotated,
        positions=call.position_ids,
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
