"""Give the axes of the inputs of a foreign file our names: batch, sequence, past, total; passes rename the others.

They are judged by the inputs: those of input_ids are batch and sequence, the cache's third axis is past.
"""

from __future__ import annotations

import onnx_ir as ir

from rope_deploy.graph.analysis.input_axes import axes_of


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
