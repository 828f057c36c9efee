"""com.microsoft.GroupQueryAttention in place of whole attentions: it rotates and keeps the cache itself.

It takes lengths where the graph had a mask: the real tokens of a sequence are its first ones. So it cannot do left
padding; with a past, it takes several tokens at once for one sequence only; and in a first prompt it reads one
position and counts up from it. `graph/operator_limits.py` has these limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common

from rope_deploy.graph.analysis.causal_mask import CausalMask, as_causal
from rope_deploy.graph.builder import Builder, produced_by, replace
from rope_deploy.graph.head_layout import is_swap, merged, split, swap, unswapped
from rope_deploy.graph.lower.cache_rows import Rows, caches
from rope_deploy.graph.lower.lowered_site import LoweredSite
from rope_deploy.graph.markers import MarkedSite, RaisedRotation, is_marker
from rope_deploy.graph.passes.decompose_attention import is_plain_attention
from rope_deploy.graph.rotating_operators import CONTRIB, GROUP_QUERY_ATTENTION

MULTIPLE = 16  # GroupQueryAttention rotates only where head_dim and rotary_dim are multiples of this


@dataclass(frozen=True)
class _Attention:
    """One attention that fits: q and k are markers, k and v are appended to the cache, the mask is causal."""

    node: ir.Node
    q: MarkedSite
    k: MarkedSite
    v: ir.Value
    past: tuple[ir.Value, ir.Value]
    present: tuple[ir.Value, ir.Value]
    mask: CausalMask


def fuse_attentions(model: ir.Model, rotations: Sequence[RaisedRotation], rows: Rows) -> list[LoweredSite]:
    """Fuse every attention of `model` that GroupQueryAttention can express; markers of the others are left alone."""
    graph = model.graph
    masks: dict[ir.Value, CausalMask | None] = {}
    found = [a for node in graph if (a := _match(node, graph, rotations, masks)) is not None]
    lengths = _Lengths(graph) if found else None
    lowered = [site for attention in found for site in _fuse(attention, lengths, rows)]
    common.RemoveUnusedNodesPass()(model)
    return lowered


def _match(node: ir.Node, graph: ir.Graph, rotations, masks) -> _Attention | None:
    if not is_plain_attention(node) or len(node.inputs) != 4:
        return None
    q, k = _marker(node.inputs[0], rotations), _appended(node.inputs[1])
    v = _appended(node.inputs[2])
    if q is None or k is None or v is None or (key := _marker(k[1], rotations)) is None:
        return None
    if (
        q.rotation is not key.rotation
        or q.rotation.table.kind == "computed"
        or q.rotation.table.axes
        or q.heads_axis != 1
    ):
        return None
    if q.head_dim % MULTIPLE or q.rotary_dim % MULTIPLE:
        return None
    mask = node.inputs[3]
    if mask not in masks:
        masks[mask] = as_causal(mask, graph, q.rotation.max_position)
    if masks[mask] is None:
        return None
    present = node.inputs[1], node.inputs[2]
    return _Attention(node, q, key, v[1], (k[0], v[0]), present, masks[mask])


def _marker(value: ir.Value, rotations) -> MarkedSite | None:
    node = value.producer()
    if not is_marker(node) or len(value.uses()) != 1:
        return None
    return MarkedSite.of(node, rotations)


def _appended(value: ir.Value) -> tuple[ir.Value, ir.Value] | None:
    """(past, new) of a cache tensor: an input with new rows concatenated, itself an output of the graph."""
    node = produced_by(value, "Concat")
    if node is None or len(node.inputs) != 2 or not value.is_graph_output() or len(value.uses()) != 1:
        return None
    past, new = node.inputs
    return (past, new) if past.is_graph_input() and node.attributes["axis"].as_int() in (2, -2) else None


class _Lengths:
    """The two lengths the operator wants, computed once: tokens before the last of each sequence, and the total."""

    def __init__(self, graph: ir.Graph):
        mask = next(value for value in graph.inputs if value.name == "attention_mask")
        build = Builder(graph[0], "attention/lengths", after=False)
        integer, small = ir.DataType.INT64, ir.DataType.INT32
        count = build.op("ReduceSum", mask, build.ints([1]), keepdims=0, dtype=integer, shape=["batch"])
        one = build.ints([1])
        before_last = build.op("Sub", count, one, dtype=integer, shape=["batch"])
        self.seqlens = build.op("Cast", before_last, to=small, dtype=small, shape=["batch"])
        total = build.op("Shape", mask, start=1, end=2, dtype=integer, shape=[1])
        scalar = build.op("Squeeze", total, build.ints([0]), dtype=integer, shape=[])
        self.total = build.op("Cast", scalar, to=small, dtype=small, shape=[])


def _fuse(a: _Attention, lengths: _Lengths, rows: Rows) -> list[LoweredSite]:
    q, k, head_dim = a.q, a.k, a.q.head_dim
    build = Builder(a.node, f"attention/{q.layer}")
    query = merged(build, unswapped(q.x) or swap(build, q.x), q.num_heads, head_dim)
    key = merged(build, unswapped(k.x) or swap(build, k.x), k.num_heads, head_dim)
    value = merged(build, unswapped(a.v) or swap(build, a.v), k.num_heads, head_dim)
    cos, sin = caches(a.node.graph, q.rotation)
    names = [present.name for present in a.present]
    shapes = [present.shape for present in a.present]
    dtype, width = q.x.dtype, q.num_heads * head_dim
    attributes = {
        "num_heads": q.num_heads,
        "kv_num_heads": k.num_heads,
        "do_rotary": 1,
        "rotary_interleaved": int(q.interleaved),
        "scale": a.node.attributes["scale"].as_float() if "scale" in a.node.attributes else head_dim**-0.5,
    }
    if a.mask.window is not None:
        attributes["local_window_size"] = a.mask.window
    out, *presents = build.ops(
        GROUP_QUERY_ATTENTION,
        query, key, value, *a.past, lengths.seqlens, lengths.total, cos, sin, rows.of(q.rotation),
        domain=CONTRIB,
        outputs=[
            (None, dtype, ["batch", "sequence", width]),
            *((None, dtype, shape) for shape in shapes),
        ],
        **attributes,
    )  # fmt: skip
    for old, new in zip(a.present, presents, strict=True):
        replace(old, new)
    _replace_output(build, a.node.outputs[0], out, q.num_heads, head_dim)
    scale = attributes["scale"]
    return [
        LoweredSite.of(q, "BS(NH)", query, None, scale=scale),
        LoweredSite.of(k, "BS(NH)", key, None, present=names[0], scale=scale),
    ]


def _replace_output(build: Builder, old: ir.Value, flat: ir.Value, heads: int, head_dim: int) -> None:
    """Give the users of [B, N, S, H] the operator's [B, S, N·H], directly where they merged the heads themselves."""
    heads_split = None
    for user, _ in list(old.uses()):
        if not is_swap(user):
            continue
        moved = user.outputs[0]
        for reshape, _ in list(moved.uses()):
            shape = reshape.outputs[0].shape
            if reshape.op_type == "Reshape" and shape is not None and len(shape) == 3 and shape[2] == heads * head_dim:
                replace(reshape.outputs[0], flat)
        if moved.uses():
            heads_split = heads_split or split(build, flat, heads, head_dim)
            moved.replace_all_uses_with(heads_split)
    remaining = [user for user, _ in old.uses() if not is_swap(user)]
    if remaining:
        heads_split = heads_split or split(build, flat, heads, head_dim)
        back = build.op("Transpose", heads_split, perm=[0, 2, 1, 3], dtype=flat.dtype, shape=old.shape)
        replace(old, back)
