"""What rotation an ONNX file holds, in which form, and what about it deserves a second look. Weights are not read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from rope_deploy.graph.analysis.dependence import POSITION_INPUT, Dependence, dependences
from rope_deploy.graph.analysis.evaluate import HALF, ancestors
from rope_deploy.graph.analysis.fixed_length import has_fixed_rows
from rope_deploy.graph.io import read_model
from rope_deploy.graph.operators import DOMAIN, ROTATE, ROTATE_QK
from rope_deploy.graph.raising.match import find_sums
from rope_deploy.graph.raising.positions.fixed_rows import FixedRows

FLOATS = (*HALF, ir.DataType.FLOAT, ir.DataType.DOUBLE)
# (domain, operator) -> (what to call it, rotations in one node)
OPERATORS = {
    ("", "RotaryEmbedding"): ("RotaryEmbedding (ONNX)", 1),
    ("com.microsoft", "RotaryEmbedding"): ("com.microsoft.RotaryEmbedding", 1),
    (DOMAIN, ROTATE): (f"{DOMAIN}.{ROTATE}", 1),
    (DOMAIN, ROTATE_QK): (f"{DOMAIN}.{ROTATE_QK}", 2),
}


@dataclass(frozen=True)
class Survey:
    """`forms`: how many rotations have which form; `tables`: names of the cos and sin tables that feed them;
    `hazards`: one sentence each."""

    opset: int
    nodes: int
    inputs: tuple[str, ...]
    forms: dict[str, int]
    runtime_cos_sin: int
    hazards: tuple[str, ...]
    tables: tuple[str, ...] = ()


def survey(path: Path) -> Survey:
    """Read the graph of `path`. Raises UsageError if it is not a sound ONNX file."""
    graph = read_model(path, weights=False).graph
    nodes = list(graph)
    marks = FixedRows(graph).marks() if has_fixed_rows(graph) else dependences(graph)
    forms = Counter()
    for node in nodes:
        if (node.domain, node.op_type) in OPERATORS:
            name, count = OPERATORS[node.domain, node.op_type]
            forms[name] += count
        if node.op_type == "GroupQueryAttention" and "do_rotary" in node.attributes:
            forms["com.microsoft.GroupQueryAttention (fused)"] += 2 * node.attributes["do_rotary"].as_int()
    sums = find_sums(graph, marks)
    if sums:
        forms["multiply-add in standard operators"] += len(sums)
    trigonometric = [node for node in graph.all_nodes() if node.op_type in ("Cos", "Sin") and node.domain == ""]
    return Survey(
        opset=graph.opset_imports.get("", 0),
        nodes=len(nodes),
        inputs=tuple(value.name for value in graph.inputs),
        forms=dict(forms),
        runtime_cos_sin=len(trigonometric),
        hazards=tuple(_hazards(graph, marks, forms, trigonometric)),
        tables=_tables([product.factor for found in sums for product in found.products], nodes),
    )


def _tables(factors: list[ir.Value], nodes: list[ir.Node]) -> tuple[str, ...]:
    """Constants of two axes or more that the cosines and sines of rotations are read from, not computed from."""
    stack = factors + [node.inputs[i] for node in nodes for i in _caches(node) if i < len(node.inputs)]
    seen: set[ir.Value] = set()
    while stack:
        value = stack.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        maker = value.producer()
        if maker is not None and maker.op_type not in ("Cos", "Sin", "Shape"):
            stack += maker.inputs
    constants = [value for value in seen if value.is_initializer() and value.dtype in FLOATS]
    return tuple(sorted(value.name for value in constants if value.shape is not None and len(value.shape) >= 2))


def _hazards(graph: ir.Graph, marks, forms: Counter, trigonometric: list[ir.Node]):
    names = {value.name for value in graph.inputs}
    if forms and POSITION_INPUT not in names:
        yield "There is no position_ids input: positions are whatever the graph counts, also with padding or a cache."
    if not forms and trigonometric:
        yield "Cos and Sin are computed, but no rotation was recognised."
    if len(trigonometric) > 2:
        yield f"{len(trigonometric)} Cos and Sin nodes run for every call; a table would replace them all."
    elif trigonometric:
        yield "Cos and Sin run for every call; unless the rule depends on its length, a table would replace them."
    angles = [node.inputs[0] for node in trigonometric]
    if any(value.dtype in HALF for value in angles):
        yield "Angles are computed in half precision: positions beyond a few hundred are wrong."
    above = list(ancestors(angles)) if angles else []
    if any(node.op_type in ("MatMul", "Gemm", "Einsum") for node in above):
        yield "Angles go through a matrix product, which a GPU may run in TF32: long positions would be wrong."
    tables = [n.inputs[i] for n in graph for i in _caches(n) if i < len(n.inputs) and n.inputs[i] is not None]
    if any(value.dtype in HALF and marks.get(value, Dependence.NOTHING) == Dependence.NOTHING for value in tables):
        yield "The table is in half precision: each entry is rounded to 8 or 11 bits."


def _caches(node: ir.Node) -> tuple[int, ...]:
    """Which inputs of a rotary operator are its caches."""
    if node.op_type == "RotaryEmbedding":
        return (1, 2) if node.domain == "" else (2, 3)
    if node.domain == DOMAIN and node.op_type in (ROTATE, ROTATE_QK):
        return (1, 2) if node.op_type == ROTATE else (2, 3)
    return (7, 8) if node.op_type == "GroupQueryAttention" else ()
