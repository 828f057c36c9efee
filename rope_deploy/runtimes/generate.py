"""Greedy generation with any runtime: the prompt in one run, then one token at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from rope_deploy.artifact import Manifest
from rope_deploy.errors import UsageError
from rope_deploy.runtimes.cache_layout import as_past, empty_past
from rope_deploy.runtimes.feed_checks import counted_positions
from rope_deploy.runtimes.protocol import Arrays, Runtime


def greedy(
    runtime: Runtime, manifest: Manifest, prompt: Sequence[int], new_tokens: int, *, stop: Collection[int] = ()
) -> tuple[int, ...]:
    """The `new_tokens` most likely tokens after `prompt`, fewer if one in `stop` comes first (it is included).

    `manifest` describes the inputs; a graph without a cache reads the whole text anew for every token.
    Raises UsageError for an encoder or an empty prompt, and what `runtime.run` raises, e.g. PositionOutOfRange.
    """
    if manifest.task != "decoder":
        raise UsageError(f"{manifest.source} is an encoder: it predicts no next token.")
    text, generated, past = list(map(int, prompt)), [], empty_past(manifest, 1)
    pending = text
    while len(generated) < new_tokens:
        outputs = runtime.run(_feeds(manifest, pending, len(text), past))
        token = int(outputs[manifest.result_name][0, -1].argmax())
        generated.append(token)
        text.append(token)
        if token in stop:
            break
        if manifest.cache:
            past, pending = as_past(manifest, outputs), [token]
    return tuple(generated)


def _feeds(manifest: Manifest, pending: Sequence[int], total: int, past: Arrays) -> Arrays:
    """The last `len(pending)` of `total` tokens; `past` holds those before."""
    every = {
        "input_ids": np.array([pending]),
        "attention_mask": np.ones((1, total)),
        "position_ids": counted_positions(manifest, total - len(pending), total),
    }
    dtypes = {info.name: info.dtype for info in manifest.inputs}
    return {name: value.astype(dtypes[name]) for name, value in every.items() if name in dtypes} | past
