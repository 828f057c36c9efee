"""The operators that rotate: who defines each, which of its inputs is what, and what is not understood.

Everything that asks "does this node rotate, and how?" asks here: reading, rewriting, validation, inspection, gates, and
what a vendor refused. Inputs and attributes are those of the operators' schemas: ONNX opset 23, onnxruntime 1.31's
com.microsoft, and our own functions (graph/lower/plugin.py). The functions take nodes of onnx and of onnx-ir alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    Node: TypeAlias = onnx.NodeProto | ir.Node

STANDARD = ""
CONTRIB = "com.microsoft"
DOMAIN = "rope_deploy"
MARKER = "Rope"  # what a rotation is raised to; never in a file
ROTARY_EMBEDDING = "RotaryEmbedding"
GROUP_QUERY_ATTENTION = "GroupQueryAttention"
ROTATE, ROTATE_QK = "RopeRotate", "RopeRotateQK"
# The attributes of our operators, and those of the plugin's other features with the values that switch them off:
# TensorRT's parser warns of every field of a plugin that a node does not have.
PLUGIN_ATTRIBUTES = ("heads_axis", "head_dim", "rotary_dim", "interleaved")
PLUGIN_UNUSED: dict[str, int | float | list[int]] = {
    "out_heads_axis": 0,
    "proportional": 0,
    "out_of_range": 0,
    "sections": [0, 0, 0],
    "sections_interleaved": 0,
    "norm_eps": 0.0,
}
# A rotation that is written without any of these operators.
MULTIPLY_ADD = "multiply-add in standard operators"
OWN_RULE = "rotates by a rule of its own"
DO_ROTARY = "do_rotary"  # the attribute by which a fused attention rotates, or does not
NUM_HEADS = "num_heads"
_WIDTH, _FUSED_INTERLEAVED = "rotary_embedding_dim", "rotary_interleaved"


@dataclass(frozen=True)
class RotatingOperator:
    """One operator. `x`, `cos`, `sin`, `rows` and `past` are numbers of its inputs.

    `rows`: the row of cos and sin for each token (positions); `past`: the KV cache, whose last axis is the head.
    `fused`: an attention that rotates its q and k where its attribute do_rotary is set. `rotary_dim` and `interleaved`
    are names of attributes; the operator has no attribute for a name of "". `opaque` says why its rotation cannot be
    read, "" where it can. `style`: the one whose lowering writes it, "" if none does. `least_inputs`: without so many
    it cannot run. `expandable`: passes/expand_rotary_operators.py writes it in standard operators; ours are functions,
    which inlining writes out.
    """

    domain: str
    name: str
    x: tuple[int, ...] = ()
    cos: int | None = None
    sin: int | None = None
    rows: int | None = None
    past: int | None = None
    fused: bool = False
    rotary_dim: str = ""
    interleaved: str = "interleaved"
    opaque: str = ""
    style: str = ""
    least_inputs: int = 0
    expandable: bool = False

    @property
    def qualified_name(self) -> str:
        """E.g. "com.microsoft.RotaryEmbedding"."""
        return f"{self.domain}.{self.name}".lstrip(".")

    @property
    def form(self) -> str:
        """What reports call a rotation that this operator makes."""
        return f"{self.qualified_name}{' (fused)' if self.fused else ' (ONNX)' if self.domain == STANDARD else ''}"


def _embedding(domain: str, cos: int, sin: int, rows: int, *, style: str, least_inputs: int = 0) -> RotatingOperator:
    return RotatingOperator(
        domain,
        ROTARY_EMBEDDING,
        (0,),
        cos,
        sin,
        rows,
        rotary_dim=_WIDTH,
        style=style,
        least_inputs=least_inputs,
        expandable=True,
    )


def _fused(name: str, cos: int, sin: int, rows: int | None = None, *, style: str = "") -> RotatingOperator:
    return RotatingOperator(
        CONTRIB,
        name,
        (0, 1),
        cos,
        sin,
        rows,
        past=3,
        fused=True,
        interleaved=_FUSED_INTERLEAVED,
        style=style,
        least_inputs=1,
    )


def _opaque(name: str, *, fused: bool, least_inputs: int = 0) -> RotatingOperator:
    return RotatingOperator(CONTRIB, name, fused=fused, opaque=OWN_RULE, least_inputs=least_inputs)


# fmt: off
OPERATORS = (
    _embedding(STANDARD, 1, 2, 3, style="onnx"),
    _embedding(CONTRIB, 2, 3, 1, style="contrib", least_inputs=4),
    RotatingOperator(CONTRIB, "MRotaryEmbedding", (0,), 2, 3, 1, rotary_dim=_WIDTH, least_inputs=4),
    RotatingOperator(DOMAIN, ROTATE, (0,), 1, 2, 3, rotary_dim="rotary_dim", style="plugin"),
    RotatingOperator(DOMAIN, ROTATE_QK, (0, 1), 2, 3, 4, rotary_dim="rotary_dim", style="plugin"),
    _fused(GROUP_QUERY_ATTENTION, 7, 8, 9, style="contrib"),
    _fused("SparseAttention", 9, 10),
    _fused("DynamicSparseAttention", 11, 12, 13),
    _fused("PagedAttention", 8, 9),
    _fused("SparsePagedAttention", 14, 15),
    _opaque("Attention", fused=True, least_inputs=1),
    _opaque("QAttention", fused=True),
    _opaque("DecoderMaskedSelfAttention", fused=True),
    _opaque("GemmaRotaryEmbedding", fused=False),
)
# fmt: on
_BY_NAME = {(one.domain, one.name): one for one in OPERATORS}
# Attributes of these operators that are whole numbers; onnx has no schema of those outside its own domain.
WHOLE_ATTRIBUTES = frozenset({
    DO_ROTARY, "heads_axis", "interleaved", "is_packed_batching", "kv_num_heads", "local_window_size", NUM_HEADS,
    "rotary_dim", _WIDTH, _FUSED_INTERLEAVED,
})  # fmt: skip


def operator_of(node: Node) -> RotatingOperator | None:
    """The operator of `node` if it is one that can rotate, whether or not it does so here."""
    return _BY_NAME.get((node.domain, node.op_type))


def rotates(node: Node) -> RotatingOperator | None:
    """The operator of `node` if it rotates here: a fused attention does where its do_rotary is set.

    An attention of ONNX Runtime that is not known and has do_rotary set is opaque.
    """
    found = operator_of(node)
    if found is None and node.domain == CONTRIB and integer(node, DO_ROTARY):
        return RotatingOperator(CONTRIB, node.op_type, fused=True, opaque="rotates, and is not an operator known here")
    return found if found is not None and (not found.fused or integer(node, DO_ROTARY)) else None


def forms_of_style(style: str) -> tuple[str, ...]:
    """The forms in which the lowering of `style` writes a rotation."""
    return tuple(one.form for one in OPERATORS if one.style == style) or (MULTIPLY_ADD,)


def written_names() -> frozenset[str]:
    """Names, without domains, of the operators that a lowering writes."""
    return frozenset(one.name for one in OPERATORS if one.style)


def integer(node: Node, name: str) -> int:
    """The attribute `name` of `node`, a whole number; 0 where it is not stated."""
    if not has_attribute(node, name):
        return 0
    stated = _attributes(node)[name]
    return stated.as_int() if hasattr(stated, "as_int") else stated.i


def has_attribute(node: Node, name: str) -> bool:
    """Whether `node` states the attribute `name`; an attribute without a name ("") is never stated."""
    return bool(name) and name in _attributes(node)


def _attributes(node: Node) -> Mapping[str, onnx.AttributeProto | ir.Attr]:
    return node.attributes if hasattr(node, "attributes") else {one.name: one for one in node.attribute}
