"""Find where a rotation applies: its layer, and whether queries or keys are rotated."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

import onnx_ir as ir

from rope_deploy.graph.rotating_operators import OPERATORS

SCOPES = "pkg.torch.onnx.name_scopes"
# model.layers.7.self_attn, /model/layers.7/attn/…, rope.7.q.out, rope/7/q/…, past_key_values.7.key
NUMBERS = (re.compile(r"\.(\d+)(?:[./'\]]|$)"), re.compile(r"^rope/(\d+)/"))
# Where a rotated tensor meets its counterpart: its input 0 is made of queries, input 1 of keys.
FUSED = {one.name for one in OPERATORS if one.fused and not one.opaque}
ATTENTIONS = {"Attention", "MatMul", "MultiHeadAttention", *FUSED}
CACHES = ("present", "past", "cache", "key")


def layer_of(node: ir.Node) -> int | None:
    """The layer number in the module path that a tracer recorded, or in what the node or its values are called."""
    texts = [node.metadata_props.get(SCOPES), node.name, *(value.name for value in node.outputs)]
    for text in texts:
        for pattern in NUMBERS:
            if numbers := pattern.findall(text or ""):
                return int(numbers[-1])
    return None


def depth_of(node: ir.Node) -> int:
    """How many modules the node is nested in, as far as a tracer recorded them."""
    return (node.metadata_props.get(SCOPES) or "").count(",")


def layer_around(root: ir.Value, nodes: Collection[ir.Node]) -> int | None:
    """The layer of a rotation made of `nodes` that ends in `root`: what one of them is called, or what follows it.

    Down to the product of attention the nodes belong to the same layer, and its keys come with their cache.
    """
    queue, seen = [user for user, _ in root.uses()], {root.producer(), *nodes}
    for node in nodes:
        if (layer := layer_of(node)) is not None:
            return layer
    while queue:
        node = queue.pop(0)
        if node in seen:
            continue
        seen.add(node)
        for found in (layer_of(node), layer_of_cache(node)):
            if found is not None:
                return found
        if node.op_type not in ATTENTIONS:
            queue += [user for output in node.outputs for user, _ in output.uses()]
    return None


def layer_of_cache(node: ir.Node) -> int | None:
    """The layer that a fused attention keeps its past of."""
    names = [value.name or "" for value in (*node.inputs, *node.outputs) if value is not None]
    for name in names:
        numbers = re.findall(r"[._](\d+)(?:[._]|$)", name)
        if numbers and ("past" in name or "present" in name):
            return int(numbers[-1])
    return None


def role_of(root: ir.Value) -> Literal["q", "k"]:
    """The side of the attention product that the rotated tensor reaches."""
    queue, seen = [root], set()
    while queue:
        value = queue.pop(0)
        if value in seen:
            continue
        seen.add(value)
        if value.is_graph_output() and any(part in value.name for part in CACHES):
            return "k"
        for node, index in value.uses():
            if node.op_type in ATTENTIONS:
                return "q" if index == 0 else "k"
            queue.extend(node.outputs)
    return "q"
