"""Give the axes of a foreign file our names: batch, sequence, past, total.

They are judged by the inputs: those of input_ids are batch and sequence, the cache's third axis is past.
"""

from __future__ import annotations

import onnx_ir as ir

from rope_deploy.graph.analysis.input_axes import axes_of
from rope_deploy.graph.passes import library
from rope_deploy.graph.passes.simplify import clean


def infer_shapes(model: ir.Model, symbols: dict[str, str]) -> None:
    """Clean the graph and find the shapes of its values, in our names; `symbols` as `name_axes` returns them."""
    graph = model.graph
    clean(model)
    library.infer_shapes(model)
    if _count_heads(graph):
        library.infer_shapes(model)
    rename_axes(graph, symbols)
    _name_heads(graph)


def name_axes(graph: ir.Graph) -> dict[str, str]:
    """Give the free axes of the inputs our names; returns what each of the file's own names stands for."""
    inputs = {value.name: value for value in graph.inputs}
    symbols: dict[str, str] = {}
    for value in inputs.values():
        axes = {n: axis for n, axis in axes_of(value).items() if not isinstance(value.shape[n], int)}
        for number, axis in axes.items():
            symbols.setdefault(str(value.shape[number].value), axis)
        value.shape = None if value.shape is None else ir.Shape([axes.get(n, dim) for n, dim in enumerate(value.shape)])
    mask = inputs.get("attention_mask")
    if mask is not None and mask.shape is not None and not any("past" in name for name in inputs):
        sizes = zip(mask.shape, ("batch", "sequence"), strict=False)
        mask.shape = ir.Shape([dim if isinstance(dim, int) else name for dim, name in sizes])
    return symbols


def rename_axes(graph: ir.Graph, symbols: dict[str, str]) -> None:
    """Give every value our axis names; past + sequence in either order is `total`."""
    for node in graph:
        for value in node.outputs:
            if value.shape is not None:
                value.shape = ir.Shape([_renamed(dim, symbols) for dim in value.shape])


def _renamed(dim: int | ir.SymbolicDim, symbols: dict[str, str]) -> int | str | None:
    if isinstance(dim, int) or dim.value is None:
        return dim if isinstance(dim, int) else None
    if (whole := str(dim.value)) in symbols:
        return symbols[whole]
    terms = [symbols.get(term, term) for term in whole.split()]
    return "total" if sorted(terms) == ["+", "past", "sequence"] else " ".join(terms)


def _count_heads(graph: ir.Graph) -> int:
    """[B, S, width] reshaped to [B, S, -1, head_dim]: state the number of heads; returns how often it was missing."""
    count = 0
    for node in graph:
        if node.op_type != "Reshape":
            continue
        before, after = node.inputs[0].shape, node.outputs[0].shape
        if before is None or after is None or (len(before), len(after)) != (3, 4) or isinstance(after[2], int):
            continue
        width, head_dim = before[2], after[3]
        if isinstance(width, int) and isinstance(head_dim, int) and width % head_dim == 0:
            node.outputs[0].shape = ir.Shape([before[0], before[1], width // head_dim, head_dim])
            count += 1
    return count


def _name_heads(graph: ir.Graph) -> None:
    """Name the axes that shape inference lost of tensors [?, heads, ?, head_dim] and [?, ?, heads, head_dim].

    A wrong guess does no harm here: a rotation is followed with these sizes, and tensors that do not fit stop it. It
    must not be written: a runtime gives axes of one name one size (see `proven_shapes`).
    """
    known = {"batch", "sequence", "past", "total"}
    for node in graph:
        for value in node.outputs:
            if value.shape is None or len(value.shape) != 4:
                continue
            fixed = [isinstance(dim, int) for dim in value.shape]
            names = {(False, True, False, True): (0, 2), (False, False, True, True): (0, 1)}.get(tuple(fixed))
            if names is None:
                continue
            dims = list(value.shape)
            for number, name in zip(names, ("batch", "sequence"), strict=True):
                if str(dims[number].value) not in known:
                    dims[number] = name
            value.shape = ir.Shape(dims)
