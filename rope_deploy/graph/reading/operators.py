"""Rotations inside operators: rotary operators, and attentions that rotate their q and k themselves.

Which input is what is from the operators' schemas: ONNX opset 23, onnxruntime 1.31's com.microsoft.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from rope_deploy.graph.analysis.layer_and_role import layer_of, layer_of_cache, role_of
from rope_deploy.graph.operators import DOMAIN, ROTATE, ROTATE_QK
from rope_deploy.graph.reading.table_sources import Source

CONTRIB = "com.microsoft"


@dataclass(frozen=True)
class Inputs:
    """Which inputs of an operator are what; `past`: the cache, whose last axis is the head."""

    x: tuple[int, ...]
    cos: int
    sin: int
    rows: int | None = None
    past: int | None = None


ROTARY = {
    ("", "RotaryEmbedding"): Inputs((0,), 1, 2, 3),
    (CONTRIB, "RotaryEmbedding"): Inputs((0,), 2, 3, 1),
    (CONTRIB, "MRotaryEmbedding"): Inputs((0,), 2, 3, 1),
    (DOMAIN, ROTATE): Inputs((0,), 1, 2, 3),
    (DOMAIN, ROTATE_QK): Inputs((0, 1), 2, 3, 4),
}
FUSED = {
    (CONTRIB, "GroupQueryAttention"): Inputs((0, 1), 7, 8, 9, past=3),
    (CONTRIB, "SparseAttention"): Inputs((0, 1), 9, 10, past=3),
    (CONTRIB, "DynamicSparseAttention"): Inputs((0, 1), 11, 12, 13, past=3),
    (CONTRIB, "PagedAttention"): Inputs((0, 1), 8, 9, past=3),
    (CONTRIB, "SparsePagedAttention"): Inputs((0, 1), 14, 15, past=3),
}
# These rotate by a rule of their own, without a table that could be read.
WITHOUT_TABLE = {
    (CONTRIB, "Attention"),
    (CONTRIB, "QAttention"),
    (CONTRIB, "DecoderMaskedSelfAttention"),
    (CONTRIB, "GemmaRotaryEmbedding"),
}


@dataclass(frozen=True)
class Applied:
    """A rotation of `source` to q or k. `rotary_dim` 0 is twice the width of the table."""

    node: ir.Node
    form: str
    source: Source
    role: Literal["q", "k"]
    layer: int | None
    num_heads: int | None
    head_dim: int | None
    rotary_dim: int
    interleaved: bool


def applied(node: ir.Node) -> Iterator[Applied]:
    """The rotations inside `node`; none for most nodes."""
    key = node.domain, node.op_type
    if key in ROTARY:
        yield from _rotary(node, ROTARY[key])
    elif key in FUSED and _integer(node, "do_rotary"):
        yield from _fused(node, FUSED[key])


def hides_rotation(node: ir.Node) -> bool:
    """Whether `node` rotates by a rule of its own."""
    key = node.domain, node.op_type
    return key in WITHOUT_TABLE and (key[1] == "GemmaRotaryEmbedding" or bool(_integer(node, "do_rotary")))


def form_of(node: ir.Node) -> str:
    return f"{node.domain}.{node.op_type}".lstrip(".")


def _rotary(node: ir.Node, places: Inputs) -> Iterator[Applied]:
    cos, sin, rows = (_input(node, number) for number in (places.cos, places.sin, places.rows))
    width = _last(cos)
    stated = _integer(node, "rotary_embedding_dim") or _integer(node, "rotary_dim")
    for number, place in enumerate(places.x):
        x = node.inputs[place]
        heads, head_dim = _heads(node, x, 2 * width if width and not stated else None)
        yield Applied(
            node=node,
            form=form_of(node),
            source=Source(x, cos=cos, sin=sin, rows=rows, from_first=node.domain == CONTRIB),
            role=role_of(node.outputs[number]),
            layer=layer_of(node),
            num_heads=heads,
            head_dim=head_dim,
            rotary_dim=stated or (2 * width if width else 0),
            interleaved=bool(_integer(node, "interleaved")),
        )


def _heads(node: ir.Node, x: ir.Value, head_dim: int | None) -> tuple[int | None, int | None]:
    """(heads, head_dim) of [B, N, S, H], [B, S, N, H] (ours says which) or [B, S, N·H]."""
    dims = [dim if isinstance(dim, int) else None for dim in x.shape] if x.shape is not None else []
    if len(dims) == 4:
        return dims[_integer(node, "heads_axis") or 1], dims[3]
    heads, width = _integer(node, "num_heads") or None, dims[2] if len(dims) == 3 else None
    if heads and width:
        return heads, width // heads
    return (width // head_dim if width and head_dim else heads), head_dim


def _last(value: ir.Value | None) -> int | None:
    """The number of elements along the last axis; None where it is not known, or there is no axis."""
    last = value.shape[-1] if value is not None and value.shape else None
    return last if isinstance(last, int) else None


def _fused(node: ir.Node, places: Inputs) -> Iterator[Applied]:
    cos, sin, rows = (_input(node, number) for number in (places.cos, places.sin, places.rows))
    past = _input(node, places.past)
    head_dim, width = _last(past), _last(cos)
    layer = layer_of(node)
    layer = layer_of_cache(node) if layer is None else layer
    for role, key in (("q", "num_heads"), ("k", "kv_num_heads")):
        yield Applied(
            node=node,
            form=f"{form_of(node)} (fused)",
            source=Source(node.inputs[0], cos=cos, sin=sin, rows=rows, by_length=rows is None),
            role=role,
            layer=layer,
            num_heads=_integer(node, key) or None,
            head_dim=head_dim,
            rotary_dim=2 * width if isinstance(width, int) else 0,
            interleaved=bool(_integer(node, "rotary_interleaved")),
        )


def _input(node: ir.Node, number: int | None) -> ir.Value | None:
    return node.inputs[number] if number is not None and number < len(node.inputs) else None


def _integer(node: ir.Node, name: str) -> int:
    return node.attributes[name].as_int() if name in node.attributes else 0
