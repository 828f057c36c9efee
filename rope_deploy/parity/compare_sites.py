"""One site in one call: what was seen of it, what it was compared with, and what a diagnosis may use.

Shapes: B rows, N heads, S tokens in the call, H head_dim, T columns of the mask so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from rope_deploy.artifact import Manifest, Site
from rope_deploy.diagnosis import Observation
from rope_deploy.parity.case_calls import Call
from rope_deploy.parity.compare import (
    Difference,
    Kind,
    largest,
    like_site,
    magnitude,
    missing,
    product_errors,
    product_gaps,
    products,
    site_end,
    size,
    token_errors,
    typical_errors,
    worst,
)
from rope_deploy.parity.oracle import Oracle
from rope_deploy.parity.rounding_chance import usual
from rope_deploy.parity.run_calls import Pair, Step
from rope_deploy.parity.towers.compare_sites import Turn
from rope_deploy.parity.towers.name_mistake import name_of
from rope_deploy.runtimes import to_compact

Tensors = Mapping[str, np.ndarray]

BOTH = 2  # PyTorch's angles are read off numbers that it has rounded itself
KEPT_HEADS = 8  # of each site, for the diagnosis
ROUNDED = 1 / 8  # of one rounding of the largest element: what typical elements of a token are rounded by
PLAIN = 8  # budgets: a mistake that large shows in the worst element of each token


@dataclass(frozen=True)
class Seen:
    """A site in one call. `how`: "output" (its tensor) or "products" (q·k of a fused attention).

    `differences` are what the case is judged by; `inputs` compares what the site was given with what PyTorch's was
    (None where PyTorch's is not known), which is no fault of the site. `observation` is None where no oracle could
    be asked. `positions`, `errors` and `ratios` [real tokens] hold the difference from PyTorch, and the error in
    units of its tolerance: against the oracle if there is one, else against PyTorch. `exactness`: the largest error
    against the oracle relative to the largest element, ours and PyTorch's own; None where it is not known. `named`:
    code and sentence of the mistake of a site without a rule, where PyTorch's angles tell.
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
    named: tuple[str, str] | None = None

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
    the shapes do not fit; `side` says whose keys go with that reference, "theirs" (the standard's) or "ours".
    `apart(answer)` compares an answer of PyTorch with the standard as `errors` does ours, and `least()` is how large
    each token of the standard looks that way.

    `blur`: how large an error of 1 in every element of q and k may look (1 when the tensor itself is seen).
    """

    how: str
    tensor: str
    errors: Callable[[np.ndarray, str], np.ndarray | None]
    apart: Callable[[Tensors], np.ndarray]
    least: Callable[[], np.ndarray]
    blur: float = 1.0


def see(pair: Pair, case: str, step: Step, site: Site) -> Seen | None:
    """A site against PyTorch, and against the oracle that turns the site's own input; None where nothing is seen.

    Where there is no rule to make an oracle of, the angles by which PyTorch turned its own input take its place.
    """
    manifest, oracle, call, got, want = pair.manifest, pair.oracle, step.call, step.got, step.want
    if (view := _view(site, call, got, step.standard)) is None:
        return None
    unrotated, exact, named = got.get(f"unrotated.{site.key}"), None, None
    if unrotated is not None and unrotated.ndim == 4 and oracle.fits(site):
        exact = oracle.rotated(site, unrotated, call.places)
    turn = None
    if exact is None and unrotated is not None:
        turn = _beside_pytorch(manifest, site, unrotated, got, step.standard)
    if turn is not None:
        exact = turn.by_angles(unknown=np.nan)
    own = _own(oracle, call, site, got, want)
    times = 1 if turn is None else BOTH
    ours = None if exact is None else _against_oracle(oracle, step, site, view, exact, own, times)
    if step.chance is not None and ours is not None and ours.difference.failed:
        step.chance.close()
    theirs = _against_pytorch(manifest, oracle, step, site, view)
    against = [one for one in (theirs, ours) if one is not None]
    ruled = ours is not None and oracle.has_rule(site)
    if turn is not None and ours is not None and ours.difference.failed and view.how == "output":
        named = name_of(turn, manifest.tolerances.rotated, call.real)
    scale = None if exact is None else magnitude(exact)
    return Seen(
        site=site,
        how=view.how,
        differences=tuple(one.difference for one in against),
        inputs=_inputs(manifest, step, site),
        observation=_observation(case, call, site, view, got, exact, ours) if ruled else None,
        positions=call.position_ids[call.real],
        errors=np.zeros(0) if theirs is None else theirs.errors[call.real],
        ratios=(against[-1].errors / against[-1].tolerance)[call.real] if against else np.zeros(0),
        exactness=(
            float(ours.errors.max() / scale) if ours is not None and view.how == "output" else None,
            None if own is None or scale is None else float(own.errors.max() / scale),
        ),
        named=named,
    )


@dataclass(frozen=True)
class _Against:
    """One comparison: the worst token, and errors and tolerances of all [B, S]; none where the shapes do not fit.

    `usual`: where a rotation is a little wrong, the root mean square error of all tokens that would be as usual.
    """

    difference: Difference
    errors: np.ndarray
    tolerance: np.ndarray
    usual: float | None = None


def _against_pytorch(manifest: Manifest, oracle: Oracle, step: Step, site: Site, view: View) -> _Against | None:
    reference, call = step.standard.get(f"rotated.{site.key}"), step.call
    if reference is None:
        return None
    if (errors := view.errors(reference, "theirs")) is None or errors.shape != call.position_ids.shape:
        return _ill_shaped("rotated", view.tensor, call, site, step.got[view.tensor], reference.shape)
    slack = oracle.slack(site, reference, call.places) * view.blur
    scale, beyond = magnitude(reference), np.maximum(errors - slack, 0.0)
    fixed = step.fixed(manifest.tolerances.rotated * scale, size(reference))
    tolerance = slack + step.tolerance("rotated", fixed, beyond, call.real, view.least, view.apart)
    return _judged("rotated", view.tensor, call, site, errors / scale, tolerance / scale)


def _against_oracle(
    oracle: Oracle,
    step: Step,
    site: Site,
    view: View,
    exact: np.ndarray,
    own: _Own | None,
    times: int,
) -> _Against:
    """The rotation of the site's own input. In half types tokens are also judged together: a table in bfloat16 or a
    length off by 0.3 % stays within what float16 explains of one element, and not within what it does to most."""
    tensor, call = f"oracle.{site.key}", step.call
    if (errors := view.errors(exact, "ours")) is None:
        return _ill_shaped("oracle", tensor, call, site, step.got[view.tensor], exact.shape)
    if errors.shape != call.position_ids.shape:  # its axes lie otherwise than the manifest says
        rows, tokens = call.position_ids.shape
        due = rows, exact.shape[1], tokens, exact.shape[3]
        return _ill_shaped("oracle", tensor, call, site, step.got[view.tensor], due)
    given = np.isfinite(exact).all(axis=(1, 3))  # of what came in as no number, nothing can be asked
    budget = times * oracle.budget(site, exact, call.places, None if own is None else own.errors)
    found = _judged("oracle", tensor, call, site, np.where(given, errors, 0.0), budget * view.blur)
    rotated = step.got[view.tensor]
    if step.chance is None or own is None or view.how != "output" or rotated.shape != exact.shape:
        return found
    ours, theirs = typical_errors(rotated, exact, 2), typical_errors(own.turned, own.exact, 2)
    beyond, common = usual(ours, theirs, largest(exact, 2) * step.unit * ROUNDED, call.real & given)
    if common is None or found.difference.ratio > PLAIN:
        return found
    narrow = np.maximum(found.errors / max(beyond, found.difference.ratio), np.finfo(np.float32).tiny)
    return replace(_judged("oracle", tensor, call, site, found.errors, narrow), usual=common)


def _judged(kind: Kind, tensor: str, call: Call, site: Site, errors: np.ndarray, tolerance: np.ndarray) -> _Against:
    errors = np.where(call.real, errors, 0.0)  # padding may hold anything
    about = {"positions": call.position_ids, "layer": site.layer, "role": site.role}
    return _Against(worst(kind, tensor, errors, tolerance, real=call.real, **about), errors, tolerance)


def _ill_shaped(kind: Kind, tensor: str, call: Call, site: Site, value: np.ndarray, due: tuple[int, ...]) -> _Against:
    difference = missing(kind, tensor, f"shape {value.shape} where {due} was due", site.layer, site.role)
    shape = call.position_ids.shape
    return _Against(difference, np.full(shape, np.inf), np.ones(shape))


@dataclass(frozen=True)
class _Own:
    """What PyTorch made of its own input, what the oracle makes of it, [B, N, S, H], and how far apart: [B, S]."""

    turned: np.ndarray
    exact: np.ndarray
    errors: np.ndarray


def _own(oracle: Oracle, call: Call, site: Site, got: Tensors, want: Tensors) -> _Own | None:
    """PyTorch's own rotation; None where it was not seen."""
    given, turned, ours = (
        want.get(f"unrotated.{site.key}"),
        want.get(f"rotated.{site.key}"),
        got.get(f"unrotated.{site.key}"),
    )
    if given is None or turned is None or ours is None or not oracle.fits(site):
        return None
    if (end := site_end(given, site, ours)) is None:
        return None
    if (exact := oracle.rotated(site, given[..., end], call.places)) is None:
        return None
    turned = turned[..., end]
    return _Own(turned, exact, np.where(call.real, token_errors(turned, exact, 2), 0.0))


def _beside_pytorch(manifest: Manifest, site: Site, unrotated: np.ndarray, got: Tensors, want: Tensors) -> Turn | None:
    """A site whose rotation has no rule, and PyTorch's own: None where that was not seen."""
    given, turned = (want.get(f"{state}.{site.key}") for state in ("unrotated", "rotated"))
    rotation = next(one for one in manifest.rotations if one.name == site.rotation)
    if given is None or turned is None or given.shape != turned.shape or not rotation.rotary_dim:
        return None
    if (end := site_end(given, site, unrotated)) is None:
        return None
    ours = unrotated, got.get(f"rotated.{site.key}", unrotated)
    return Turn(site, rotation, ours, (given[..., end], turned[..., end]))


def _view(site: Site, call: Call, got: Tensors, standard: Tensors) -> View | None:
    rotated = f"rotated.{site.key}"
    if rotated in got:
        ours = got[rotated]
        return View(
            how="output",
            tensor=rotated,
            errors=lambda reference, _: _direct(ours, reference, site),
            apart=lambda answer: _like_ours(ours, answer[rotated], standard[rotated], site),
            least=lambda: largest(standard[rotated], 2),
        )
    name, cache = f"products.{site.layer}", f"present.{site.layer}.key"
    if site.role != "q" or site.occurrence or name not in got:
        return None
    keys = {"ours": got[cache]}
    if cache in standard:
        keys["theirs"] = to_compact(standard[cache], call.attention_mask)
    sees = _sees(call)

    def apart(answer: Tensors) -> np.ndarray:
        made = products(answer[rotated], to_compact(answer[cache], call.attention_mask))
        return product_errors(made, standard[rotated], keys["theirs"], sees)

    return View(
        how="products",
        tensor=name,
        errors=lambda query, side: product_errors(got[name], query, keys[side], sees),
        apart=apart,
        least=lambda: np.linalg.norm(standard[rotated].astype(np.float64), axis=-1).max(axis=1),
        blur=2 * float(np.sqrt(site.head_dim)),  # along a key, of q and of k
    )


def _sees(call: Call) -> np.ndarray:
    """[B, S, T]: which rows of a compact cache each query looks at."""
    mask, tokens = call.attention_mask, call.tokens
    columns = np.broadcast_to(np.arange(mask.shape[1]), mask.shape)
    last = mask.shape[1] - tokens + np.arange(tokens)
    return (to_compact(mask, mask) == 1)[:, None, :] & (to_compact(columns, mask)[:, None, :] <= last[:, None])


def _direct(ours: np.ndarray, reference: np.ndarray, site: Site) -> np.ndarray | None:
    # PyTorch's function may have been given nothing but what turns, our site the whole head with what follows it.
    width = min(site.head_dim, reference.shape[-1])
    ours = ours[..., :width]
    fitted = like_site(reference, replace(site, head_dim=width), ours)
    return None if fitted is None else token_errors(np.broadcast_to(ours, fitted.shape), fitted, 2)


def _like_ours(ours: np.ndarray, answer: np.ndarray, reference: np.ndarray, site: Site) -> np.ndarray:
    """An answer of PyTorch against the reference, in what `_direct` compares of ours."""
    width = min(site.head_dim, reference.shape[-1])
    end = site_end(reference, replace(site, head_dim=width), ours[..., :width]) or slice(None)
    return token_errors(answer[..., end], reference[..., end], 2)


def _inputs(manifest: Manifest, step: Step, site: Site) -> Difference | None:
    """Was the site given what PyTorch's rotation was given?"""
    key, call = f"unrotated.{site.key}", step.call
    ours, theirs = step.got.get(key), step.standard.get(key)
    if ours is None or theirs is None or (errors := _direct(ours, theirs, site)) is None:
        return None

    def apart(answer: Tensors) -> np.ndarray:
        return _like_ours(ours, answer[key], theirs, site)

    scale = magnitude(theirs)
    fixed = step.fixed(manifest.tolerances.rotated * scale, size(theirs))
    allowed = step.tolerance("inputs", fixed, errors, call.real, lambda: largest(theirs, 2), apart)
    about = {"real": call.real, "positions": call.position_ids, "layer": site.layer, "role": site.role}
    return worst("inputs", key, errors / scale, allowed / scale, **about)


def _observation(
    case: str, call: Call, site: Site, view: View, got: Tensors, exact: np.ndarray, judged: _Against
) -> Observation | None:
    """The evidence of one site; None where its shapes do not fit. Of many heads it keeps the worst and others."""
    unrotated = got[f"unrotated.{site.key}"]
    if (unrotated.shape[0], unrotated.shape[2]) != call.position_ids.shape:
        return None
    if view.how == "output":
        rotated = got[view.tensor]
        if rotated.shape != unrotated.shape:
            return None
        heads = _heads(np.where(call.real[:, None, :, None], np.abs(rotated - exact), 0.0).max(axis=(0, 2, 3)))
        unrotated, rotated = unrotated[:, heads], rotated[:, heads]
        errors = partial(_apart, rotated) if judged.usual is None else partial(_together_apart, rotated, call.real)
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
        # Half of what is usual: what a diagnosis calls explained (see `diagnosis.explain`) is then twice the usual.
        budget=judged.tolerance if judged.usual is None else np.full(call.real.shape, judged.usual / 2),
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


def _together_apart(rotated: np.ndarray, real: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The root mean square error of all real tokens, for each of them."""
    errors = np.where(real, typical_errors(rotated, prediction, 2), 0.0)
    return np.full(real.shape, np.sqrt(np.square(errors).sum() / max(1, real.sum())))


def _products_apart(products: np.ndarray, keys: np.ndarray, sees: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    return product_errors(products, prediction, keys, sees)
