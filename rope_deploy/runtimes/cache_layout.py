"""The layouts of a KV cache: the row of each token, by column of the mask or compact.

Keys, values and an indexer's keys have a row per token; the states of convolutions and recurrences have a fixed size
and are zero before a first prompt.

column    A graph of standard operators appends: row t of the cache belongs to column t of attention_mask, padding
          included.
compact   A fused attention puts the real tokens of a sequence into the first rows, whatever padding lies between.

One graph may have both, each layer its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rope_deploy.artifact import PAST_PREFIX, PRESENT_PREFIX, Manifest
from rope_deploy.runtimes.protocol import Arrays


def empty_past(manifest: Manifest, batch: int) -> Arrays:
    """`past_key_values.*` of a first prompt, of length 0 or zero; {} for a graph without a cache."""

    def size(axis: int | str) -> int:
        return axis if isinstance(axis, int) else batch if axis == "batch" else 0

    past = [info for info in manifest.inputs if info.name in manifest.past_names]
    return {info.name: np.zeros([size(axis) for axis in info.shape], info.dtype) for info in past}


def token_axes(manifest: Manifest) -> dict[str, int | None]:
    """The axis of every `present.*` that has a row per token; None for a state of fixed size."""
    shapes = {info.name: info.shape for info in manifest.inputs}
    pasts = ((name, shapes[_past(name)]) for name in manifest.present_names)
    return {name: shape.index("past") if "past" in shape else None for name, shape in pasts}


def _past(present: str) -> str:
    return present.replace(PRESENT_PREFIX, PAST_PREFIX, 1)


def as_past(manifest: Manifest, outputs: Mapping[str, np.ndarray]) -> Arrays:
    """The `present.*` of one run as the `past_key_values.*` of the next, in the graph's dtype."""
    dtypes = {info.name: info.dtype for info in manifest.inputs}
    renamed = {_past(name): outputs[name] for name in manifest.present_names}
    return {name: value.astype(dtypes[name], copy=False) for name, value in renamed.items()}


def compact_layers(manifest: Manifest) -> frozenset[int]:
    """The layers whose attention is fused: their caches are compact."""
    return frozenset(site.layer for site in manifest.sites if site.output is None and site.present)


def to_compact(cache: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A cache in column layout, in compact layout: real rows first. cache [B, N, T, H] or [B, T]; mask [B, T]."""
    order = np.argsort(mask == 0, axis=1, kind="stable")
    if cache.ndim == 2:
        return np.take_along_axis(cache, order, axis=1)
    return np.take_along_axis(cache, order[:, None, :, None], axis=2)


def in_cache_layout(manifest: Manifest, past: Mapping[str, np.ndarray], mask: np.ndarray) -> Arrays:
    """A past from PyTorch, which is in column layout for mask [B, P], in the layout of each layer of this graph."""
    fused = {f"{PAST_PREFIX}{layer}.{part}" for layer in compact_layers(manifest) for part in ("key", "value")}
    return {name: to_compact(value, mask) if name in fused else value for name, value in past.items()}


def new_keys(present: np.ndarray, mask: np.ndarray, tokens: int) -> np.ndarray:
    """The last `tokens` keys in a compact cache. present [B, N, T, H], mask [B, T] -> [B, N, tokens, H]."""
    past = mask[:, : mask.shape[1] - tokens].sum(axis=1)
    rows = np.minimum(past[:, None] + np.arange(tokens), present.shape[2] - 1)  # beyond the end: padding only
    return np.take_along_axis(present, rows[:, None, :, None].astype(np.int64), axis=2)
