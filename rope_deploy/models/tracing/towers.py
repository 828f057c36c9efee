"""Trace and run what reads no text: the vision or audio tower of a model, or a model that is one.

Towers read numbers out of tensors: how many patches an image has in each direction, where the next image begins.
A tracer follows tensors whose values it does not know, and stops where Python asks for one. So whatever does not
depend on the inputs of the graph is computed right away, as if nobody traced; only results that meet an input enter
the program, as constants. The graph is then one for these numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from rope_deploy.models.example_inputs import Example, cast, example_of
from rope_deploy.models.loading.load import LoadedModel
from rope_deploy.models.reference.tower_rotations import turning
from rope_deploy.models.tracing.translate import translate

FOLLOWED = (FakeTensor, FunctionalTensor, torch.SymInt, torch.SymFloat, torch.SymBool)
BATCHED = "batch"


class _AtOnce(TorchFunctionMode):
    """Inside the block, functions of tensors that the tracer does not follow are computed, not traced."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        given = {} if kwargs is None else kwargs
        if function is F.embedding_bag:
            function = _bags
        if any(isinstance(leaf, FOLLOWED) for leaf in tree_leaves((args, given))):
            return function(*args, **given)
        with _disable_current_modes():
            return function(*args, **given)


def _bags(indices: torch.Tensor, weight: torch.Tensor, offsets: torch.Tensor | None = None, **kwargs) -> torch.Tensor:
    """F.embedding_bag of bags of one size, indices [bags, size], as a sum: torch.onnx makes a loop of it."""
    kept = any(kwargs.get(name) is not None for name in ("max_norm", "padding_idx"))
    if indices.ndim != 2 or offsets is not None or kept or kwargs.get("mode") != "sum":
        return F.embedding_bag(indices, weight, offsets, **kwargs)
    found, weights = F.embedding(indices, weight), kwargs.get("per_sample_weights")
    return (found if weights is None else found * weights.unsqueeze(-1)).sum(dim=-2)


@contextmanager
def _numbers_at_hand(model: torch.nn.Module) -> Iterator[None]:
    """Whole numbers that modules keep as buffers (strides, indices) are plain attributes inside the block: a tracer
    follows every buffer."""
    moved = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and not buffer.is_floating_point() and not buffer.is_complex()
    ]
    for module, name, buffer in moved:
        del module._buffers[name]
        vars(module)[name] = buffer
    try:
        yield
    finally:
        for module, name, buffer in moved:
            del vars(module)[name]
            module._buffers[name] = buffer


class _Flat(torch.nn.Module):
    """The tower with its inputs in a list and its results in one."""

    def __init__(self, loaded: LoadedModel, example: Example):
        super().__init__()
        self.model = loaded.model
        self._names, self._fixed = tuple(example.tensors), dict(example.fixed)

    def forward(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        with _AtOnce():
            output = self.model(**dict(zip(self._names, tensors, strict=True)), **self._fixed)
        return list(results(output).values())


def trace_tower(loaded: LoadedModel, example: Example) -> ir.Model:
    """An ONNX model with the inputs of `example` by their names, at its sizes: only the batch may be left open.

    Its results are those of `results`. Raises whatever torch.export and torch.onnx raise.
    """
    flat = _Flat(loaded, example).eval()
    names = tuple(results(loaded.model(**example.arguments)))
    with _numbers_at_hand(loaded.model):
        program = _exported(flat, example)
    model = translate(program)
    graph = model.graph
    for value, name in zip(graph.inputs, example.tensors, strict=True):
        value.name = name
    for value, name in zip(graph.outputs, names, strict=True):
        value.name = name
    _name_batch(graph)
    return model


def _exported(flat: _Flat, example: Example) -> torch.export.ExportedProgram:
    """With a free batch if the inputs have one axis in common that the model lets be free, else with all sizes fixed.

    What is fixed belongs to the images it was made for, so with it there is no free batch.
    """
    tensors = [tensor.clone() for tensor in example.tensors.values()]  # one tensor given twice would be one input
    first = {tensor.shape[0] for tensor in tensors}
    if len(first) == 1 and first != {1} and not example.fixed:
        try:
            axes = [{0: torch.export.Dim(BATCHED, min=1)} for _ in tensors]
            return torch.export.export(flat, (tensors,), dynamic_shapes=(axes,), strict=False)
        except Exception:  # its code looks at the batch: whatever torch or the model make of that
            pass
    return torch.export.export(flat, (tensors,), strict=False)


def _name_batch(graph: ir.Graph) -> None:
    """The tracer calls the free axis s0 or the like; what is derived from it keeps its words."""
    symbols = {str(dim) for value in graph.inputs for dim in value.shape if not isinstance(dim, int)}
    for value in [*graph.inputs, *(value for node in graph for value in node.outputs)]:
        if value.shape is not None:
            dims = [BATCHED if not isinstance(dim, int) and str(dim) in symbols else dim for dim in value.shape]
            value.shape = ir.Shape(dims)


def run_tower(loaded: LoadedModel, feeds: Mapping[str, np.ndarray], taps: bool = False) -> dict[str, np.ndarray]:
    """Run the tower once on named numpy arrays, its fixed arguments among them; half-precision comes back as float32.

    `taps` adds those of `models.turns`.
    """
    dtype = next((parameter.dtype for parameter in loaded.model.parameters()), torch.float32)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in feeds.items()}
    with torch.no_grad(), turning(loaded.model) if taps else nullcontext() as turns:
        output = loaded.model(**cast(example_of(tensors), dtype).arguments)
    found = {**results(output), **(turns.taps() if turns is not None else {})}
    return {name: tensor.detach().to(_kept(tensor.dtype)).contiguous().numpy() for name, tensor in found.items()}


def _kept(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def results(output: Any) -> dict[str, torch.Tensor]:
    """Every floating-point tensor that a tower gives, by name; members of a list are NAME.0, NAME.1, …

    What it gives under two names has the first.
    """
    found: dict[str, torch.Tensor] = {}
    for name, tensor in _named(output, ""):
        if tensor.is_floating_point() and all(tensor is not known for known in found.values()):
            found[name] = tensor
    return found


def _named(output: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(output, torch.Tensor):
        yield name or "last_hidden_state", output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from _named(value, f"{name}.{key}" if name else str(key))
    elif isinstance(output, (list, tuple)):
        for number, value in enumerate(output):
            yield from _named(value, f"{name or 'output'}.{number}")
