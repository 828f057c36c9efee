"""Trace a loaded model to an ONNX graph, once, with the names and axes of the artifact.

torch.export follows the model with symbolic batch, sequence and past; torch.onnx translates operator by operator.
Its optimizer is left out: on a real model it takes longer than everything else together, and the little folding
that is needed here is done by `rope_deploy.graph.passes.sequences.after_trace` in under a second.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import onnx_ir as ir
import torch

from rope_deploy.artifact import PAST_PREFIX, PRESENT_PREFIX, TOKENS_KEY, Finding
from rope_deploy.errors import ModelError
from rope_deploy.models.example_inputs import Example, guess_example, handed_on, takes
from rope_deploy.models.kv_cache import GROWING
from rope_deploy.models.library_errors import lacks_package, missing_package, root_of
from rope_deploy.models.loaded_model import LoadedModel
from rope_deploy.models.patches.patched import patched
from rope_deploy.models.reference.run_reference import call, result_name
from rope_deploy.models.restored_attributes import attributes_restored
from rope_deploy.models.tracing import open_sizes
from rope_deploy.models.tracing.trace_tower import trace_tower
from rope_deploy.models.tracing.translate import translate
from rope_deploy.models.tracing.untraceable import cannot_be_called, code_outside, untraceable

# Sizes of the traced example. All differ and none is 1: the tracer would take 1 for a broadcast and equal
# sizes for one axis.
BATCH, SEQUENCE, PAST = 2, 3, 5


@dataclass(frozen=True)
class Traced:
    """An ONNX model at opset 23, the names of the patches that were in place while it was traced, and findings."""

    model: ir.Model
    patches: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


class _Flat(torch.nn.Module):
    """The model with flat inputs, as the graph will have them."""

    def __init__(self, loaded: LoadedModel, names: tuple[str, ...], parts: tuple[str, ...], cache: bool):
        super().__init__()
        self.model = loaded.model
        self._loaded, self._names, self._parts, self._cache = loaded, names, parts, cache

    def forward(self, tensors, past):
        given, kept = dict(zip(self._names, tensors, strict=True)), dict(zip(self._parts, past, strict=True))
        result, presents = call(self._loaded, given, kept, cache=self._cache, traced=True)
        return result, [presents[name] for name in self._parts]


def trace(loaded: LoadedModel, *, cache: bool = True, example: Example | None = None) -> Traced:
    """Trace `loaded` to an ONNX model whose initializers share memory with the PyTorch weights.

    Decoders: input_ids, attention_mask, position_ids, past_key_values.N.PART → logits, present.N.PART, where PART
    is key, value or another of `rope_deploy.models.kv_cache`. With `cache=False`, and for encoders, the past and
    present tensors are absent. Where positions have several axes (M-RoPE), position_ids is [axes, batch, sequence].
    Where the model takes another path in longer calls, the graph's metadata state under TOKENS_KEY how many tokens it
    serves. A tower has the inputs and results of `trace_tower`; `example` is what it is fed, by default a guess.

    Raises ModelError when PyTorch cannot export the model, or where it does not follow what it is to be fed;
    EnvironmentMissing where a patch does not fit the installed libraries.
    """
    with patched(loaded.model, "run") as run:
        if loaded.task == "tower":
            return _trace_tower(loaded, guess_example(loaded.model) if example is None else example, run)
        return _trace_text(loaded, cache and loaded.task == "decoder", run)


def _trace_tower(loaded: LoadedModel, example: Example, run: tuple[str, ...]) -> Traced:
    with patched(loaded.model, "trace") as more, _tracing(loaded):
        model, findings = trace_tower(loaded, example)
    return Traced(model, (*run, *more), findings)


def _trace_text(loaded: LoadedModel, cache: bool, run: tuple[str, ...]) -> Traced:
    names = _input_names(loaded)
    past = _example_past(loaded) if cache else {}
    sequence = torch.arange(SEQUENCE)
    start = PAST if cache else 0
    example = {
        "input_ids": torch.ones(BATCH, SEQUENCE, dtype=torch.long),
        "attention_mask": torch.ones(BATCH, start + SEQUENCE, dtype=torch.long),
        "position_ids": _along_axes((start + sequence).repeat(BATCH, 1), loaded.position_axes),
    }
    batch, seq, prior = (torch.export.Dim(name) for name in ("batch", "sequence", "past"))
    axes = {
        "input_ids": {0: batch, 1: seq},
        "attention_mask": {0: batch, 1: torch.export.Dim.DYNAMIC if cache else seq},
        "position_ids": {0: batch, 1: seq} if loaded.position_axes == 1 else {1: batch, 2: seq},
    }
    args = ([example[name] for name in names], list(past.values()))
    dynamic = ([axes[name] for name in names], [_axes_of(name, batch, prior) for name in past])
    flat = _Flat(loaded, names, tuple(past), cache).eval()
    with patched(loaded.model, "trace") as more, _tracing(loaded):
        sized = open_sizes.export(
            flat, args, dynamic, max((spec.reach for spec in loaded.specs.values()), default=None)
        )
        model = translate(sized.program)
    if sized.tokens is not None:
        model.metadata_props[TOKENS_KEY] = str(sized.tokens)
    _name(model.graph, names, tuple(past), result_name(loaded))
    return Traced(model, (*run, *more))


@contextmanager
def _tracing(loaded: LoadedModel) -> Iterator[None]:
    """Everything that a trace needs around it; what goes wrong inside is a ModelError."""
    try:
        with _quiet(), attributes_restored(loaded.model), torch.no_grad():
            yield
    except Exception as error:  # torch raises dozens of kinds; all mean that this model does not trace
        if lacks_package(root_of(error)):
            raise missing_package(loaded.source, root_of(error)) from error
        raise untraceable(loaded.source, loaded.model_type, error) from error


def _input_names(loaded: LoadedModel) -> tuple[str, ...]:
    """The standard inputs that this model's forward takes, or hands on to the model inside it."""
    taken = {*takes(loaded.model), *handed_on(loaded.model)}
    return tuple(name for name in ("input_ids", "attention_mask", "position_ids") if name in taken)


def _axes_of(name: str, batch: torch.export.Dim, prior: torch.export.Dim) -> dict[int, torch.export.Dim]:
    """The axes of a part of the cache that are symbolic."""
    growing = GROWING.get(name.split(".")[1])
    return {0: batch} if growing is None else {0: batch, growing: prior}


def _example_past(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    """The cache that the model itself leaves after a first call.

    Raises ModelError for a cache that it does not keep in layers that are known here, and for a model whose code fails
    without a cache as well.
    """
    tensors = {
        "input_ids": torch.ones(BATCH, PAST, dtype=torch.long),
        "attention_mask": torch.ones(BATCH, PAST, dtype=torch.long),
        "position_ids": _along_axes(torch.arange(PAST).repeat(BATCH, 1), loaded.position_axes),
    }
    try:
        with torch.no_grad():
            return call(loaded, tensors, {})[1]
    except Exception as error:  # what a model raises when its layers do not find the cache they want
        try:
            with torch.no_grad():
                call(loaded, tensors, {}, cache=False)
        except Exception:  # it is not for the cache, then
            raise cannot_be_called(loaded.source, loaded.model_type, error) from error
        raise ModelError(
            f"The cache of {loaded.source} ({loaded.model_type}) is of a kind that is not known.",
            exists=code_outside(error),
            todo="Export it without a cache: --no-cache.",
        ) from error


def _along_axes(positions: torch.Tensor, axes: int) -> torch.Tensor:
    """[B, S] as it is, or [axes, B, S] with another position on each axis: alike, a tracer might take them for one."""
    if axes == 1:
        return positions
    return positions + torch.arange(axes)[:, None, None]


def _name(graph: ir.Graph, names: tuple[str, ...], parts: tuple[str, ...], result: str) -> None:
    """Give inputs, outputs and axes the artifact's names; the tracer's own are s0, s70 and the like."""
    inputs = list(graph.inputs)
    past = dict(zip(parts, inputs[len(names) :], strict=True))
    symbols = {str(inputs[0].shape[0]): "batch", str(inputs[0].shape[1]): "sequence"}
    for part, value in past.items():
        if (growing := GROWING.get(part.split(".")[1])) is not None:
            symbols[str(value.shape[growing])] = "past"
    for node in graph:
        for value in node.outputs:
            value.shape = _renamed(value.shape, symbols)
    for value, name in zip(inputs, names, strict=False):
        value.name = name
        leading = list(value.shape)[:-2]  # the axes of a position, where it has several
        value.shape = ir.Shape([*leading, "batch", "total" if parts and name == "attention_mask" else "sequence"])
    for part, value in past.items():
        value.name = f"{PAST_PREFIX}{part}"
        value.shape = _renamed(value.shape, symbols)
    graph.outputs[0].name = result
    for part, value in zip(parts, graph.outputs[1:], strict=True):
        value.name = f"{PRESENT_PREFIX}{part}"


def _renamed(shape: ir.Shape | None, symbols: dict[str, str]) -> ir.Shape | None:
    """`shape` with the tracer's symbols replaced; past + sequence in either order is `total`."""
    if shape is None:
        return None
    dims: list[int | str] = []
    for dim in shape:
        terms = [symbols.get(term, term) for term in str(dim).split()]
        is_total = sorted(terms) == ["+", "past", "sequence"]
        dims.append(dim if isinstance(dim, int) else "total" if is_total else " ".join(terms))
    return ir.Shape(dims)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch.onnx logs and warns about its own registry; none of it concerns the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
