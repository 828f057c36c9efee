"""The cache after a call, against PyTorch's or against the cache before it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from rope_deploy.artifact import PAST_PREFIX, PRESENT_PREFIX, Manifest
from rope_deploy.parity.compare import Difference, largest, magnitude, missing, shape_fault, size, token_errors, worst
from rope_deploy.parity.oracle import Oracle
from rope_deploy.parity.run_calls import Step
from rope_deploy.runtimes import Arrays, compact_layers, to_compact, token_axes


def kept(manifest: Manifest, step: Step) -> Iterator[Difference]:
    """A cache that grows keeps the rows it had; a fused attention may move them. Of states only the shape is said."""
    past, fused = step.columns.shape[1] - step.call.tokens, compact_layers(manifest)
    for name, axis in token_axes(manifest).items():
        layer, part = _place(name)
        before, after = step.feeds[name.replace(PRESENT_PREFIX, PAST_PREFIX, 1)], step.got.get(name)
        shape = list(before.shape)
        if axis is not None:
            shape[axis] = step.columns.shape[1]
        if fault := shape_fault(after, tuple(shape)):
            yield missing("cache", name, fault, layer, part)
        elif axis is not None and past and layer not in fused:
            errors = token_errors(after.take(range(past), axis), before, axis)
            real, positions = step.call.attention_mask[:, :past] == 1, step.columns[:, :past]
            about = {"real": real, "positions": positions, "layer": layer, "role": part}
            yield worst("cache", name, errors, step.fixed(manifest.tolerances.rotated, size(before)), **about)


def caches_of(manifest: Manifest, oracle: Oracle, step: Step) -> Iterator[Difference]:
    """The real rows of everything that grows, where each layer keeps them, and all of every state."""
    keys, compacting = (
        {site.layer: site for site in manifest.sites if site.role == "k" and not site.occurrence},
        compact_layers(manifest),
    )
    mask, got, want = step.call.attention_mask, step.got, step.standard
    for name, axis in token_axes(manifest).items():
        layer, part = _place(name)
        if fault := shape_fault(got.get(name), want[name].shape):
            yield missing("cache", name, fault, layer, part)
        elif axis is None:
            yield _state(manifest, step, name)
        else:
            arrange = partial(to_compact, mask=mask) if layer in compacting else np.asarray
            theirs, positions = arrange(want[name]), arrange(step.columns)
            site = keys.get(layer) if part == "key" else None
            scale, real = magnitude(theirs), arrange(mask) == 1
            slack = oracle.slack(site, theirs, positions) / scale if site else 0.0
            errors = token_errors(got[name], theirs, axis) / scale

            def apart(side: Arrays, name=name, arrange=arrange, theirs=theirs, axis=axis, scale=scale) -> np.ndarray:
                return token_errors(arrange(side[name]), theirs, axis) / scale

            def least(theirs=theirs, axis=axis, scale=scale) -> np.ndarray:
                return largest(theirs, axis) / scale

            beyond = np.maximum(errors - slack, 0.0)
            fixed = step.fixed(manifest.tolerances.rotated, size(theirs))
            allowed = slack + step.tolerance("cache", fixed, beyond, real, least, apart)
            yield worst("cache", name, errors, allowed, real=real, positions=positions, layer=layer, role=part)


def _state(manifest: Manifest, step: Step, name: str) -> Difference:
    """A state, as if it were one token: the last."""
    layer, part = _place(name)
    ours, theirs = (side[name][:, None] for side in (step.got, step.standard))
    scale, real = magnitude(theirs), step.call.real.any(axis=1, keepdims=True)

    def apart(side: Arrays) -> np.ndarray:
        return token_errors(side[name][:, None], theirs, 1) / scale

    errors = token_errors(ours, theirs, 1) / scale
    fixed = step.fixed(manifest.tolerances.rotated, size(theirs))
    allowed = step.tolerance("cache", fixed, errors, real, lambda: largest(theirs, 1) / scale, apart)
    return worst("cache", name, errors, allowed, real=real, positions=step.columns[:, -1:], layer=layer, role=part)


def _place(name: str) -> tuple[int, str]:
    """Layer and part of a `present.{layer}.{part}`."""
    layer, part = name.removeprefix(PRESENT_PREFIX).split(".")
    return int(layer), part
