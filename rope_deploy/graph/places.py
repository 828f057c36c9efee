"""Where a rotation applies: its layer, and whether queries or keys are rotated."""

from __future__ import annotations

import re
from typing import Literal

import onnx_ir as ir

SCOPES = "pkg.torch.onnx.name_scopes"
# model.layers.7.self_attn, /model/layers.7/attn/…, rope.7.q.out, rope/7/q/…, past_key_values.7.key
NUMBERS = (re.compile(r"\.(\d+)(?:[./'\]]|$)"), re.compile(r"^rope/(\d+)/"))
ATTENTIONS = (
    "Attention", "DynamicSparseAttention", "GroupQueryAttention", "MatMul", "MultiHeadAttention", "PagedAttention",
    "SparseAttention",
)  # fmt: skip
CACHES = ("present", "past", "cache", "key")


def layer_of(node: ir.Node) -> int | None:
    """The layer number in the module path that a tracer recorded, or in what the node or its values are called."""
    texts = [node.metadata_props.get(SCOPES), node.name, *(value.name for value in node.outputs)]
    for text in texts:
        for pattern in NUMBERS:
            if numbers := pattern.findall(text or ""):
                return int(numbers[-1])
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
        if value.is_graph_output() and any(word in value.name for word in CACHES):
            return "k"
        for node, index in value.uses():
            if node.op_type in ATTENTIONS:
                return "q" if index == 0 else "k"
            queue.extend(node.outputs)
    return "q"
