"""One call judged: every tensor of it that can be compared, against PyTorch and against the oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from rope_deploy.artifact import Manifest, Site
from rope_deploy.parity.calls import Call
from rope_deploy.parity.compare import Difference, like_site, magnitude, missing, product_errors, token_errors, worst
from rope_deploy.parity.oracle import Oracle
from rope_deploy.runtimes import compact, compacting_layers

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Judged:
    """`points` holds (role, position, error) of rotated q and k; `sites` what was seen of each (layer, role)."""

    differences: tuple[Difference, ...]
    points: tuple[tuple[str, int, float], ...]
    sites: tuple[tuple[int, str, str], ...]
    flips: int
    tokens: int


def judge(manifest: Manifest, oracle: Oracle, call: Call, columns: np.ndarray, got: Tensors, want: Tensors) -> Judged:
    """Compare what a runtime gave with what PyTorch gave; columns [B, T] holds the position of every cache row."""
    differences: list[Difference] = [_results(manifest, call, got, want)]
    points: list[tuple[str, int, float]] = []
    sites: list[tuple[int, str, str]] = []
    for site in manifest.sites:
        if (view := _view(site, call, got, want)) is None:
            continue
        sites.append((site.layer, site.role, view.how))
        for difference, errors in _site(manifest, oracle, call, site, view, got, want):
            differences.append(difference)
            if difference.kind == "rotated" and errors is not None:
                pairs = zip(call.position_ids[call.real].tolist(), errors[call.real].tolist())
                points += [(site.role, position, error) for position, error in pairs]
    differences += _caches(manifest, oracle, call, columns, got, want)
    flips = _flips(got.get(manifest.result_name), want[manifest.result_name], call.real)
    return Judged(tuple(differences), tuple(points), tuple(sites), flips, int(call.real.sum()))


def _results(manifest: Manifest, call: Call, got: Tensors, want: Tensors) -> Difference:
    name = manifest.result_name
    if fault := _shape_fault(got.get(name), want[name].shape):
        return missing("logits", name, fault)
    errors = token_errors(got[name], want[name], 1)
    return worst("logits", name, errors, manifest.tolerances.logits, real=call.real, positions=call.position_ids)


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


def _view(site: Site, call: Call, got: Tensors, want: Tensors) -> View | None:
    name = f"rotated.{site.layer}.{site.role}"
    if name in got:
        return View("output", name, lambda reference, _: _direct(got[name], reference, site))
    name, cache = f"products.{site.layer}", f"present.{site.layer}.key"
    if site.role != "q" or name not in got:
        return None
    mask, tokens = call.attention_mask, call.tokens
    columns = np.broadcast_to(np.arange(mask.shape[1]), mask.shape)
    last = mask.shape[1] - tokens + np.arange(tokens)
    sees = (compact(mask, mask) == 1)[:, None, :] & (compact(columns, mask)[:, None, :] <= last[:, None])
    keys = {"ours": got[cache], "theirs": compact(want[cache], mask)}
    blur = 2 * float(np.sqrt(site.head_dim))  # along a key, of q and of k
    return View("products", name, lambda query, side: product_errors(got[name], query, keys[side], sees), blur)


def _direct(ours: np.ndarray, reference: np.ndarray, site: Site) -> np.ndarray | None:
    fitted = like_site(reference, site, ours)
    return None if fitted is None else token_errors(np.broadcast_to(ours, fitted.shape), fitted, 2)


def _site(
    manifest: Manifest, oracle: Oracle, call: Call, site: Site, view: View, got: Tensors, want: Tensors
) -> Iterator[tuple[Difference, np.ndarray | None]]:
    """A site against PyTorch, and against the oracle that turns the site's own input; each with its errors [B, S]."""
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
            yield missing(kind, tensor, fault, **about), None
            continue
        tolerance = allowed(site, reference, positions) * view.blur
        if kind == "rotated":
            scale = magnitude(reference)
            errors, tolerance = errors / scale, tolerance / scale + manifest.tolerances.rotated
        yield worst(kind, tensor, errors, tolerance, real=call.real, positions=positions, **about), errors


def _caches(
    manifest: Manifest, oracle: Oracle, call: Call, columns: np.ndarray, got: Tensors, want: Tensors
) -> Iterator[Difference]:
    """The real rows of every present key and value, where each layer keeps them."""
    keys, compacting = {site.layer: site for site in manifest.sites if site.role == "k"}, compacting_layers(manifest)
    mask = call.attention_mask
    for name in manifest.present_names:
        layer, part = int(name.split(".")[1]), name.split(".")[2]
        if fault := _shape_fault(got.get(name), want[name].shape):
            yield missing("cache", name, fault, layer, part)
            continue
        arrange = partial(compact, mask=mask) if layer in compacting else np.asarray
        theirs, positions = arrange(want[name]), arrange(columns)
        site = keys.get(layer) if part == "key" else None
        scale = magnitude(theirs)
        allowed = manifest.tolerances.rotated + (oracle.slack(site, theirs, positions) / scale if site else 0.0)
        about = {"real": arrange(mask) == 1, "positions": positions, "layer": layer, "role": part}
        yield worst("cache", name, token_errors(got[name], theirs, 2) / scale, allowed, **about)


def _flips(got: np.ndarray | None, want: np.ndarray, real: np.ndarray) -> int:
    """Real tokens whose most likely class differs: worth knowing, but a near tie proves nothing."""
    if got is None or got.shape != want.shape:
        return 0
    return int((got.argmax(-1) != want.argmax(-1))[real].sum())


def _shape_fault(value: np.ndarray | None, shape: tuple[int, ...]) -> str:
    if value is None:
        return "the runtime did not return it"
    return "" if value.shape == shape else f"shape {value.shape} instead of {shape}"
