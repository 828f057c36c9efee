"""Record what a decoder or encoder rotates, at its attentions, while it runs.

    rotated.{site}    [B, N, S, H]  q, or the new rows of k, that enter an attention; or what they were made of, if a
                                    norm or a factor comes between rotation and attention
    unrotated.{site}  [B, N, S, H]  the same before the rotation, where the model's own rotary function can be watched

A site is "{layer}.q" or "{layer}.k"; what an indexer rotates is "{layer}.q.1", and only the part that rotates.
Layers have the numbers that they state themselves, unless two state one number: then they are numbered as they run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest import mock

import torch

from rope_deploy.models.loaded_model import LoadedModel
from rope_deploy.models.patches.attention_and_mask import Listener, listening
from rope_deploy.models.reference.rotary_functions import BeforeAfter, rotary_calls


@dataclass(frozen=True)
class _Attention:
    """One attention: the number of its layer as it states it, what was rotated for it, and whether anything was."""

    layer: int | None
    rotated: dict[str, list[BeforeAfter]]
    rotates: bool


@contextmanager
def tapping(loaded: LoadedModel, taps: dict[str, torch.Tensor], sequence: int) -> Iterator[None]:
    """Fill `taps` with what is rotated inside the block, in a call of `sequence` tokens."""
    attentions: list[_Attention] = []
    with rotary_calls(loaded.model) as calls:

        def keep(module, query, key):
            query, key = query.detach().clone(), key[:, :, -sequence:].detach().clone()
            layer, rotates = getattr(module, "layer_idx", None), bool(calls.pairs)
            attentions.append(_Attention(layer, calls.of_attention(query, key), rotates))
            calls.next_layer()

        with listening(keep) if loaded.native_attention else _older_attention(loaded, keep):
            yield
    taps.update(_named(attentions))


def _named(attentions: list[_Attention]) -> Iterator[tuple[str, torch.Tensor]]:
    layers = [one.layer for one in attentions]
    if None in layers:
        layers = list(range(len(attentions)))
    elif len(set(layers)) < len(layers):
        attentions = [one for one in attentions if one.rotates]
        layers = list(range(len(attentions)))
    for layer, one in zip(layers, attentions, strict=True):
        for role, pairs in one.rotated.items():
            for number, (before, after) in enumerate(pairs):
                site = f"{layer}.{role}.{number}" if number else f"{layer}.{role}"
                yield f"rotated.{site}", after
                if before is not None:
                    yield f"unrotated.{site}", before


@contextmanager
def _older_attention(loaded: LoadedModel, keep: Listener) -> Iterator[None]:
    # Attention modules from before transformers' attention interface compute it in a method of this name.
    with ExitStack() as stack:
        for module in loaded.model.modules():
            if callable(original := getattr(module, "_attn", None)):
                stack.enter_context(mock.patch.object(module, "_attn", _reporting(module, original, keep)))
        yield


def _reporting(module: torch.nn.Module, original: Callable, keep: Listener) -> Callable:
    def reporting(query, key, *args, **kwargs):
        keep(module, query, key)
        return original(query, key, *args, **kwargs)

    return reporting
