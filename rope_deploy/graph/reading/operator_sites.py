"""Find the sites whose rotation happens inside an operator: a rotary operator, or an attention that rotates q and k.

Which operators these are, and which of their inputs is what, stands in graph/rotating_operators.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from rope_deploy.graph.analysis.layer_and_role import layer_of, layer_of_cache, role_of
from rope_deploy.graph.reading.records import Unread
from rope_deploy.graph.reading.table_sources import TableSource
from rope_deploy.graph.rotating_operators import CONTRIB, RotatingOperator, integer, rotates


@dataclass(frozen=True)
class LocatedSite:
    """A site that was found, its table not yet read. `rotary_dim` 0 is twice the width of the table."""

    node: ir.Node
    form: str
    source: TableSource
    role: Literal["q", "k"]
    layer: int | None
    num_heads: int | None
    head_dim: int | None
    rotary_dim: int
    interleaved: bool


def operator_sites(graph: ir.Graph) -> tuple[list[LocatedSite], list[Unread]]:
    """The sites inside the operators of `graph`, and the operators whose rotation cannot be read."""
    found: list[LocatedSite] = []
    unread: list[Unread] = []
    for node in graph:
        operator, name = rotates(node), node.name or node.outputs[0].name
        if operator is None:
            continue
        if operator.opaque:
            unread.append(Unread(name, f"{operator.qualified_name} {operator.opaque}."))
            continue
        for site in (_fused if operator.fused else _rotary)(node, operator):
            if site.source.cos is None or site.source.sin is None:
                unread.append(Unread(name, f"{site.form} has no table to rotate by."))
            else:
                found.append(site)
    return found, unread


def _rotary(node: ir.Node, operator: RotatingOperator) -> Iterator[LocatedSite]:
    cos, sin, rows = (_input(node, number) for number in (operator.cos, operator.sin, operator.rows))
    width = _last(cos)
    stated = integer(node, operator.rotary_dim)
    for number, index in enumerate(operator.x):
        x = node.inputs[index]
        heads, head_dim = _heads(node, x, 2 * width if width and not stated else None)
        yield LocatedSite(
            node=node,
            form=operator.form,
            source=TableSource(x, cos=cos, sin=sin, rows=rows, from_first=node.domain == CONTRIB),
            role=role_of(node.outputs[number]),
            layer=layer_of(node),
            num_heads=heads,
            head_dim=head_dim,
            rotary_dim=stated or (2 * width if width else 0),
            interleaved=bool(integer(node, operator.interleaved)),
        )


def _heads(node: ir.Node, x: ir.Value, head_dim: int | None) -> tuple[int | None, int | None]:
    """(heads, head_dim) of [B, N, S, H], [B, S, N, H] (our operators state which) or [B, S, N·H]."""
    dims = [dim if isinstance(dim, int) else None for dim in x.shape] if x.shape is not None else []
    if len(dims) == 4:
        return dims[integer(node, "heads_axis") or 1], dims[3]
    heads, width = integer(node, "num_heads") or None, dims[2] if len(dims) == 3 else None
    if heads and width:
        return heads, width // heads
    return (width // head_dim if width and head_dim else heads), head_dim


def _last(value: ir.Value | None) -> int | None:
    """The number of elements along the last axis; None where it is not known, or there is no axis."""
    last = value.shape[-1] if value is not None and value.shape else None
    return last if isinstance(last, int) else None


def _fused(node: ir.Node, operator: RotatingOperator) -> Iterator[LocatedSite]:
    cos, sin, rows = (_input(node, number) for number in (operator.cos, operator.sin, operator.rows))
    head_dim, width = _last(_input(node, operator.past)), _last(cos)
    layer = layer_of(node)
    layer = layer_of_cache(node) if layer is None else layer
    for role, heads in (("q", "num_heads"), ("k", "kv_num_heads")):
        yield LocatedSite(
            node=node,
            form=operator.form,
            source=TableSource(node.inputs[0], cos=cos, sin=sin, rows=rows, by_length=rows is None),
            role=role,
            layer=layer,
            num_heads=integer(node, heads) or None,
            head_dim=head_dim,
            rotary_dim=2 * width if isinstance(width, int) else 0,
            interleaved=bool(integer(node, operator.interleaved)),
        )


def _input(node: ir.Node, number: int | None) -> ir.Value | None:
    return node.inputs[number] if number is not None and number < len(node.inputs) else None
