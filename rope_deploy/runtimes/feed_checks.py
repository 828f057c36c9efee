"""Checks of the feeds of a call, before they reach a vendor's operator.

What runtimes do with bad inputs differs: some raise, some wrap around, some read foreign memory, some return wrong
results without an error. Here every runtime refuses the same inputs with the same message.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rope_deploy.artifact import Manifest, TensorInfo
from rope_deploy.errors import PositionOutOfRange, UsageError

UNFUSE = "Export with `--no-fused-attention` for a graph without this limit."


def counted_positions(manifest: Manifest, start: int, end: int) -> np.ndarray:
    """position_ids of one row of text, from `start` to `end` - 1: [1, S], or [A, 1, S] with all axes alike."""
    row = np.arange(start, end)[None]
    return row if manifest.position_axes == 1 else np.stack([row] * manifest.position_axes)


def check_feeds(manifest: Manifest, feeds: Mapping[str, np.ndarray]) -> None:
    """Raise unless `manifest`'s graph can run `feeds` and will answer rightly.

    Raises UsageError for a missing, unexpected or ill-shaped input, for a token outside the vocabulary and for
    what `manifest.limits` excludes; PositionOutOfRange for a position outside the exported table.
    """
    _names(manifest, feeds)
    axes = _axes(manifest, feeds)
    if manifest.task == "tower":
        if empty := [name for name, value in feeds.items() if not value.size]:
            raise UsageError(f"{', '.join(empty)} holds nothing.", todo="Feed at least one image or recording.")
        return
    batch, tokens = feeds["input_ids"].shape
    past = axes.get("past", 0)
    if not batch or not tokens:
        raise UsageError(f"input_ids [{batch}, {tokens}] holds no token.", todo="Feed at least one token.")
    _tokens(manifest, feeds["input_ids"])
    _mask(feeds.get("attention_mask"), batch, past, tokens)
    _positions(manifest, feeds.get("position_ids"), past, tokens)
    _limits(manifest, feeds, past)


def _names(manifest: Manifest, feeds: Mapping[str, np.ndarray]) -> None:
    known = [info.name for info in manifest.inputs]
    missing = [name for name in known if name not in feeds]
    strange = [name for name in feeds if name not in known]
    if missing or strange:
        faults = {"missing": missing, "unexpected": strange}
        found = "; ".join(f"{fault} {', '.join(names)}" for fault, names in faults.items() if names)
        raise UsageError(f"The inputs do not fit the graph: {found}.", exists=f"It takes {', '.join(known)}.")


def _axes(manifest: Manifest, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Sizes of the named axes; raises when dtype, rank, a fixed size or two uses of one name disagree."""
    axes: dict[str, int] = {}
    for info in manifest.inputs:
        value = feeds[info.name]
        if str(value.dtype) != info.dtype:
            raise UsageError(f"{info.name} is {value.dtype}.", exists=f"The graph takes {info.dtype}.")
        if value.ndim != len(info.shape):
            raise _ill_shaped(info, value)
        for size, expected in zip(value.shape, info.shape, strict=True):
            if (size != expected) if isinstance(expected, int) else (axes.setdefault(expected, size) != size):
                raise _ill_shaped(info, value, axes)
    return axes


def _ill_shaped(info: TensorInfo, value: np.ndarray, axes: Mapping[str, int] | None = None) -> UsageError:
    wanted = ", ".join(map(str, info.shape))
    sizes = ", ".join(f"{name} = {size}" for name, size in (axes or {}).items() if name in info.shape)
    return UsageError(
        f"{info.name} has shape {list(value.shape)}.",
        exists=f"The graph takes [{wanted}]" + (f" with {sizes}." if sizes else "."),
    )


def _tokens(manifest: Manifest, ids: np.ndarray) -> None:
    size = manifest.vocab_size
    if size is not None and (bad := (ids < 0) | (ids >= size)).any():
        b, t = np.argwhere(bad)[0]
        raise UsageError(f"input_ids[{b}, {t}] = {ids[b, t]} is no token.", exists=f"The vocabulary has {size} tokens.")


def _mask(mask: np.ndarray | None, batch: int, past: int, tokens: int) -> None:
    if mask is None:
        return
    if mask.shape != (batch, past + tokens):
        raise UsageError(
            f"attention_mask has shape {list(mask.shape)}.",
            exists=f"With {past} tokens in the cache and {tokens} new ones it must be [{batch}, {past + tokens}].",
            todo="Give one entry for every token in the cache and every new token: 1 = real, 0 = padding.",
        )
    if ((mask != 0) & (mask != 1)).any():
        raise UsageError("attention_mask holds values other than 0 and 1.", todo="1 = real token, 0 = padding.")


def _positions(manifest: Manifest, positions: np.ndarray | None, past: int, tokens: int) -> None:
    rows = manifest.max_position
    if positions is None:
        if past + tokens > rows:
            raise _out_of_range(f"{past + tokens} tokens need position {past + tokens - 1}", rows, past + tokens)
        return
    bad = (positions < 0) | (positions >= rows)
    if bad.any():
        where = np.argwhere(bad)[0]
        value = int(positions[tuple(where)])
        index = ", ".join(map(str, where))
        position = f"position_ids[{index}] = {value} (batch {where[-2]}, token {where[-1]})"
        asked = f"{position} lies outside the exported table"
        raise _out_of_range(asked, rows, int(positions.max()) + 1 if value > 0 else None)


def _out_of_range(asked: str, rows: int, needed: int | None) -> PositionOutOfRange:
    todo = f"Export again with `--max-position {needed}` or more." if needed else "Positions start at 0."
    return PositionOutOfRange(f"{asked}.", exists=f"It holds positions 0 to {rows - 1}.", todo=todo)


def _limits(manifest: Manifest, feeds: Mapping[str, np.ndarray], past: int) -> None:
    """Refuse what a fused attention computes wrongly, or refuses with an operator's error (see artifact.Limits)."""
    limits, positions = manifest.limits, feeds.get("position_ids")
    batch, tokens = feeds["input_ids"].shape
    mask = feeds.get("attention_mask", np.ones((batch, past + tokens), np.int64)).astype(bool)
    new = mask[:, past:]
    if limits.tokens is not None and past + tokens > limits.tokens:
        raise UsageError(
            f"{past + tokens} tokens are more than this graph is for.",
            exists=f"It takes {limits.tokens}, padding included: for more, the model goes a way that the graph lacks.",
        )
    if not limits.left_padding:
        if not mask[:, 0].all():
            row = np.argmin(mask[:, 0])
            raise _limited(f"Row {row} of attention_mask begins with padding", "takes padding on the right only")
        hole = (~new).any(axis=1) if past else (np.diff(new.astype(np.int8), axis=1) > 0).any(axis=1)
        if hole.any():
            raise _limited(
                f"Row {np.argmax(hole)} of attention_mask has padding before or among the new tokens",
                "counts real tokens and takes them to be the first ones",
            )
    if not limits.padded_past and not mask[:, :past].all():
        row = np.argmin(mask[:, :past].all(axis=1))
        raise _limited(
            f"Row {row} of attention_mask has padding in its past", "slides its window over real tokens only"
        )
    if not limits.chunked_prefill_batch and batch > 1 and past and tokens > 1:
        raise _limited(
            f"{tokens} new tokens follow a past of {past} in a batch of {batch}",
            "takes several tokens after a past at batch 1 only",
        )
    if not limits.prompt_positions and not past and positions is not None:
        wrong = (positions != positions[0, 0] + np.arange(tokens)) & new
        if wrong.any():
            b, t = np.argwhere(wrong)[0]
            raise _limited(
                f"position_ids[{b}, {t}] = {positions[b, t]} of a first prompt does not count up from "
                f"position_ids[0, 0] = {positions[0, 0]}",
                "reads only the first position of a first prompt",
            )


def _limited(asked: str, fact: str) -> UsageError:
    return UsageError(f"{asked}.", exists=f"The attention of this graph is fused: it {fact}.", todo=UNFUSE)
