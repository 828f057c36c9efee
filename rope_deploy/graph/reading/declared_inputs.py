"""Read which inputs an ONNX file declares: names, types, axes, and how large whole numbers may be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from rope_deploy.graph.io import read_model

# What whole numbers go through before they index a table.
CARRIERS = frozenset({"Cast", "Identity", "Reshape", "Flatten", "Unsqueeze", "Squeeze", "Transpose"})


@dataclass(frozen=True)
class Input:
    """An input of a graph. `dtype` is numpy's name; an axis is a number, a name, or None. `below`: the rows of the
    smallest table that its whole numbers index, which they must stay below; None if they index none."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]
    below: int | None = None


def inputs_of(path: Path) -> tuple[Input, ...]:
    """The inputs of an ONNX file, in order, without those that are weights. Raises UsageError for what is not ONNX."""
    graph = read_model(path, weights=False).graph
    return tuple(_read(value) for value in graph.inputs if value.name not in graph.initializers)


def _read(value: ir.Value) -> Input:
    dtype = value.dtype
    name = "bfloat16" if dtype == ir.DataType.BFLOAT16 else "" if dtype is None else str(dtype.numpy())
    shape = tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape or ())
    return Input(value.name, name, shape, min(_rows(value), default=None))


def _rows(value: ir.Value) -> Iterator[int]:
    stack, seen = [value], set()
    while stack:
        value = stack.pop()
        for node, index in value.uses():
            if node.op_type in CARRIERS and index == 0 and node not in seen:
                seen.add(node)
                stack.extend(node.outputs)
            elif node.op_type.startswith("Gather") and index == 1 and node.inputs[0].shape is not None:
                axis = node.attributes["axis"].value if "axis" in node.attributes else 0
                rows = node.inputs[0].shape[axis]
                if isinstance(rows, int):
                    yield rows
