"""What a decoder or encoder rotates, heard at its attentions while it runs.

    rotated.{site}    [B, N, S, H]  q, or the new rows of k, that enter an attention; or what they were made of, if a
                                    norm or a factor comes between rotation and attention
    unrotated.{site}  [B, N, S, H]  the same before the rotation, where the model's own rotary function can be watched

A site is "{layer}.q" or "{layer}.k"; what an indexer turns is "{layer}.q.1", and only that part of it that turns.
Layers are called as they number themselves, unless two have one number: then as they run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from rope_deploy.models.loading.load import LoadedModel
from rope_deploy.models.patches.attention import Listener, listening
from rope_deploy.models.reference.rotary_functions import Turn, watching


@dataclass(frozen=True)
class _Heard:
    """One attention: what it calls its layer, what was turned for it, and whether anything was."""

    layer: int | None
    turns: dict[str, list[Turn]]
    turned: bool


@contextmanager
def tapping(loaded: LoadedModel, taps: dict[str, torch.Tensor], sequence: int) -> Iterator[None]:
    """Fill `taps` with what is rotated inside the block, in a call of `sequence` tokens."""
    heard: list[_Heard] = []
    with watching(loaded.model) as watched:

        def keep(module, query, key):
            query, key = query.detach().clone(), key[:, :, -sequence:].detach().clone()
            layer, turned = getattr(module, "layer_idx", None), bool(watched.pairs)
            heard.append(_Heard(layer, watched.attention(query, key), turned))
            watched.next_layer()

        with listening(keep) if loaded.native_attention else _older_attention(loaded, keep):
            yield
    taps.update(_named(heard))


def _named(heard: list[_Heard]) -> Iterator[tuple[str, torch.Tensor]]:
    layers = [one.layer for one in heard]
    if None in layers:
        layers = list(range(len(heard)))
    elif len(set(layers)) < len(layers):
        heard = [one for one in heard if one.turned]
        layers = list(range(len(heard)))
    for layer, one in zip(layers, heard, strict=True):
        for role, turns in one.turns.items():
            for number, (before, after) in enumerate(turns):
                site = f"{layer}.{role}.{number}" if number else f"{layer}.{role}"
                yield f"rotated.{site}", after
                if before is not None:
                    yield f"unrotated.{site}", before


@contextmanager
def _older_attention(loaded: LoadedModel, keep: Listener) -> Iterator[None]:
    # Attention modules from before transformers' attention interface compute it in a method of this name.
    older = [m for m in loaded.model.modules() if callable(getattr(m, "_attn", None))]
    for module in older:
        original = module._attn

        def tapped(query, key, *args, _module=module, _original=original, **kwargs):
            keep(_module, query, key)
            return _original(query, key, *args, **kwargs)

        module._attn = tapped
    try:
        yield
    finally:
        for module in older:
            del module._attn
