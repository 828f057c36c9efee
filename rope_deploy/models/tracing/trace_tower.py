"""Trace what reads no text: the vision or audio tower of a model, or a model that is one.

Towers read numbers out of tensors: how many patches an image has in each direction, where the next image begins.
A tracer follows tensors whose values it does not know, and stops where Python asks for one. So whatever does not
depend on the inputs of the graph is computed at once, outside the trace; only results that meet an input enter the
program, as constants. The graph then holds for these numbers alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from rope_deploy.artifact import Finding
from rope_deploy.models.example_inputs import Example
from rope_deploy.models.library_errors import code_line, root_of
from rope_deploy.models.loaded_model import LoadedModel
from rope_deploy.models.reference.run_tower import tower_results
from rope_deploy.models.torch_private import FakeTensor, FunctionalTensor, disable_current_modes, tree_leaves
from rope_deploy.models.tracing.translate import translate

FOLLOWED = (FakeTensor, FunctionalTensor, torch.SymInt, torch.SymFloat, torch.SymBool)
BATCHED = "batch"


class _ComputedAtOnce(TorchFunctionMode):
    """Inside the block, functions of tensors that the tracer does not follow are computed, not traced."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        given = {} if kwargs is None else kwargs
        if function is F.embedding_bag:
            function = _bags
        if any(isinstance(leaf, FOLLOWED) for leaf in tree_leaves((args, given))):
            return function(*args, **given)
        with disable_current_modes():
            return function(*args, **given)


def _bags(indices: torch.Tensor, weight: torch.Tensor, offsets: torch.Tensor | None = None, **kwargs) -> torch.Tensor:
    """F.embedding_bag of bags of one size, indices [bags, size], as a sum: torch.onnx makes a loop of it."""
    kept = any(kwargs.get(name) is not None for name in ("max_norm", "padding_idx"))
    if indices.ndim != 2 or offsets is not None or kept or kwargs.get("mode") != "sum":
        return F.embedding_bag(indices, weight, offsets, **kwargs)
    found, weights = F.embedding(indices, weight), kwargs.get("per_sample_weights")
    return (found if weights is None else found * weights.unsqueeze(-1)).sum(dim=-2)


class _Flat(torch.nn.Module):
    """The tower with its inputs in a list and its results in one."""

    def __init__(self, loaded: LoadedModel, example: Example):
        super().__init__()
        self.model = loaded.model
        self._names, self._fixed = tuple(example.tensors), dict(example.fixed)

    def forward(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        with _ComputedAtOnce():
            output = self.model(**dict(zip(self._names, tensors, strict=True)), **self._fixed)
        return list(tower_results(output).values())


def trace_tower(loaded: LoadedModel, example: Example) -> tuple[ir.Model, tuple[Finding, ...]]:
    """An ONNX model with the inputs of `example` by their names, at its sizes: only the batch may be left open.

    Its results are those of `reference.run_tower.tower_results`; a finding says where the batch is fixed because the
    model could not be traced otherwise. Raises whatever torch.export and torch.onnx raise.
    """
    flat = _Flat(loaded, example).eval()
    names = tuple(tower_results(loaded.model(**example.arguments)))
    program, findings = _exported(flat, example)
    model = translate(program)
    graph = model.graph
    for value, name in zip(graph.inputs, example.tensors, strict=True):
        value.name = name
    for value, name in zip(graph.outputs, names, strict=True):
        value.name = name
    _name_batch(graph)
    return model, findings


def _exported(flat: _Flat, example: Example) -> tuple[torch.export.ExportedProgram, tuple[Finding, ...]]:
    """With a free batch if the inputs have one axis in common that the model lets be free, else with all sizes fixed.

    What is fixed belongs to the images it was made for, so with it there is no free batch.
    """
    tensors = [tensor.clone() for tensor in example.tensors.values()]  # one tensor given twice would be one input
    first = {tensor.shape[0] for tensor in tensors}
    findings: tuple[Finding, ...] = ()
    if len(first) == 1 and first != {1} and not example.fixed:
        try:
            axes = [{0: torch.export.Dim(BATCHED, min=1)} for _ in tensors]
            return torch.export.export(flat, (tensors,), dynamic_shapes=(axes,), strict=False), findings
        except Exception as error:  # its code looks at the batch: whatever torch or the model make of that
            root = root_of(error)
            message = (
                f"The batch is fixed at {first.pop()}: traced with a free one, the model stops with "
                f"{type(root).__name__} in {code_line(root)}."
            )
            findings = (Finding("fixed-batch", "warning", message),)
    return torch.export.export(flat, (tensors,), strict=False), findings


def _name_batch(graph: ir.Graph) -> None:
    """Name the free axis, which the tracer calls s0 or the like; sizes derived from it keep the tracer's names."""
    symbols = {str(dim) for value in graph.inputs for dim in value.shape if not isinstance(dim, int)}
    for value in [*graph.inputs, *(value for node in graph for value in node.outputs)]:
        if value.shape is not None:
            dims = [BATCHED if not isinstance(dim, int) and str(dim) in symbols else dim for dim in value.shape]
            value.shape = ir.Shape(dims)
