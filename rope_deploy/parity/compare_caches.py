"""Compare the cache after a call with PyTorch's, or with the cache before the call."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from rope_deploy.artifact import PAST_PREFIX, PRESENT_PREFIX, Manifest
from rope_deploy.parity.difference import Difference, missing, shape_fault, worst
from rope_deploy.parity.float64_oracle import Oracle
from rope_deploy.parity.run_calls import CallRun
from rope_deploy.parity.tensor_errors import largest_element, largest_elements, magnitude, token_errors
from rope_deploy.runtimes import Arrays, compact_layers, to_compact, token_axes


def compare_kept_rows(manifest: Manifest, run: CallRun) -> Iterator[Difference]:
    """Without PyTorch's cache: one that grows must keep the rows it had, unless a fused attention may move them.

    Of states, which do not grow, only the shape is compared.
    """
    past, fused = run.columns.shape[1] - run.call.tokens, compact_layers(manifest)
    for name, axis in token_axes(manifest).items():
        layer, part = _layer_and_part(name)
        before, after = run.feeds[name.replace(PRESENT_PREFIX, PAST_PREFIX, 1)], run.got.get(name)
        shape = list(before.shape)
        if axis is not None:
            shape[axis] = run.columns.shape[1]
        if fault := shape_fault(after, tuple(shape)):
            yield missing("cache", name, fault, layer, part)
        elif axis is not None and past and layer not in fused:
            errors = token_errors(after.take(range(past), axis), before, axis)
            real, positions = run.call.attention_mask[:, :past] == 1, run.columns[:, :past]
            about = {"real": real, "positions": positions, "layer": layer, "role": part}
            tolerance = run.fixed(manifest.tolerances.rotated, largest_element(before))
            yield worst("cache", name, errors, tolerance, **about)


def compare_caches(manifest: Manifest, oracle: Oracle, run: CallRun) -> Iterator[Difference]:
    """With PyTorch's: the real rows of every tensor that grows, as its layer arranges them, and every state."""
    keys = {site.layer: site for site in manifest.sites if site.role == "k" and not site.occurrence}
    compacting = compact_layers(manifest)
    mask, got, want = run.call.attention_mask, run.got, run.standard
    for name, axis in token_axes(manifest).items():
        layer, part = _layer_and_part(name)
        if fault := shape_fault(got.get(name), want[name].shape):
            yield missing("cache", name, fault, layer, part)
        elif axis is None:
            yield _compare_state(manifest, run, name)
        else:
            arrange = partial(to_compact, mask=mask) if layer in compacting else np.asarray
            theirs, positions = arrange(want[name]), arrange(run.columns)
            site = keys.get(layer) if part == "key" else None
            scale, real = magnitude(theirs), arrange(mask) == 1
            slack = oracle.slack(site, theirs, positions) / scale if site else 0.0
            errors = token_errors(got[name], theirs, axis) / scale

            def errors_of(answer: Arrays, name=name, arrange=arrange, theirs=theirs, axis=axis, scale=scale):
                return token_errors(arrange(answer[name]), theirs, axis) / scale

            def largest(theirs=theirs, axis=axis, scale=scale) -> np.ndarray:
                return largest_elements(theirs, axis) / scale

            beyond = np.maximum(errors - slack, 0.0)
            fixed = run.fixed(manifest.tolerances.rotated, largest_element(theirs))
            allowed = slack + run.tolerance("cache", fixed, beyond, real, largest, errors_of)
            yield worst("cache", name, errors, allowed, real=real, positions=positions, layer=layer, role=part)


def _compare_state(manifest: Manifest, run: CallRun, name: str) -> Difference:
    """A state compared as if it were one token, at the position of the last."""
    layer, part = _layer_and_part(name)
    ours, theirs = (side[name][:, None] for side in (run.got, run.standard))
    scale, real = magnitude(theirs), run.call.real.any(axis=1, keepdims=True)

    def errors_of(answer: Arrays) -> np.ndarray:
        return token_errors(answer[name][:, None], theirs, 1) / scale

    errors = token_errors(ours, theirs, 1) / scale
    fixed = run.fixed(manifest.tolerances.rotated, largest_element(theirs))
    allowed = run.tolerance("cache", fixed, errors, real, lambda: largest_elements(theirs, 1) / scale, errors_of)
    return worst("cache", name, errors, allowed, real=real, positions=run.columns[:, -1:], layer=layer, role=part)


def _layer_and_part(name: str) -> tuple[int, str]:
    """Layer and part of a `present.{layer}.{part}`."""
    layer, part = name.removeprefix(PRESENT_PREFIX).split(".")
    return int(layer), part
