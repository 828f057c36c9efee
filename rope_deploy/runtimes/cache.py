"""Where the rows of a key-value cache lie.

A graph of standard operators appends: row t of the cache belongs to column t of attention_mask, padding included.
A fused attention compacts: the real tokens of a sequence fill the first rows, whatever padding lay between. One
graph may do both, each layer with its own cache.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.runtimes.base import Arrays


def empty_past(manifest: Manifest, batch: int) -> Arrays:
    """`past_key_values.*` of length 0 for a first prompt; {} for a graph without a cache."""

    def size(axis: int | str) -> int:
        return axis if isinstance(axis, int) else batch if axis == "batch" else 0

    past = [info for info in manifest.inputs if info.name in manifest.past_names]
    return {info.name: np.zeros([size(axis) for axis in info.shape], info.dtype) for info in past}


def as_past(manifest: Manifest, outputs: Mapping[str, np.ndarray]) -> Arrays:
    """The `present.*` of one run as the `past_key_values.*` of the next, in the graph's dtype."""
    dtypes = {info.name: info.dtype for info in manifest.inputs}
    renamed = {name: outputs[name.replace("past_key_values.", "present.", 1)] for name in manifest.past_names}
    return {name: value.astype(dtypes[name], copy=False) for name, value in renamed.items()}


def compacting_layers(manifest: Manifest) -> frozenset[int]:
    """The layers whose attention is fused and keeps its cache compact."""
    return frozenset(site.layer for site in manifest.sites if site.output is None and site.present)


def compact(cache: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Rows as a fused attention keeps them: the real ones first. cache [B, N, T, H] or [B, T]; mask [B, T]."""
    order = np.argsort(mask == 0, axis=1, kind="stable")
    if cache.ndim == 2:
        return np.take_along_axis(cache, order, axis=1)
    return np.take_along_axis(cache, order[:, None, :, None], axis=2)


def as_kept(manifest: Manifest, past: Mapping[str, np.ndarray], mask: np.ndarray) -> Arrays:
    """A past from PyTorch, every row in its column of mask [B, P], as the layers of this graph keep it."""
    layers = compacting_layers(manifest)
    return {name: compact(value, mask) if int(name.split(".")[1]) in layers else value for name, value in past.items()}


def new_rows(present: np.ndarray, mask: np.ndarray, tokens: int) -> np.ndarray:
    """The last `tokens` keys a fused attention wrote. present [B, N, T, H], mask [B, T] -> [B, N, tokens, H]."""
    past = mask[:, : mask.shape[1] - tokens].sum(axis=1)
    rows = np.minimum(past[:, None] + np.arange(tokens), present.shape[2] - 1)  # beyond the end: padding only
    return np.take_along_axis(present, rows[:, None, :, None].astype(np.int64), axis=2)
