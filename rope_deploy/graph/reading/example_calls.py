"""Example calls of a graph: inputs with positions, lengths and shapes but no data, enough to evaluate cos and sin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from rope_deploy.graph.analysis.dependence import POSITION_INPUT
from rope_deploy.graph.analysis.dummy_inputs import size_of
from rope_deploy.graph.analysis.input_axes import axes_of


class ExampleCalls:
    """Makes inputs of calls of `graph`."""

    def __init__(self, graph: ir.Graph):
        self.graph, self._inputs = graph, list(graph.inputs)
        self.positions = next((value for value in self._inputs if value.name == POSITION_INPUT), None)
        axes = {value: axes_of(value) for value in self._inputs}
        free = {
            name for value, named in axes.items() for n, name in named.items() if not isinstance(value.shape[n], int)
        }
        self.cached = any("past" in named.values() for named in axes.values())
        self._fixed = {
            name: value.shape[number]
            for value, named in axes.items()
            for number, name in named.items()
            if isinstance(value.shape[number], int) and not (value is self.positions and name in free)
        }

    @property
    def batch(self) -> int | None:
        """How many rows every call has, None if that is free."""
        return self._fixed.get("batch")

    @property
    def sequence(self) -> int | None:
        """How many tokens every call has, None if that is free."""
        return self._fixed.get("sequence")

    @property
    def same_tokens(self) -> bool:
        """Whether every call has as many tokens, positions from a constant: no input has a free axis but the batch."""
        shapes = [value.shape for value in self._inputs if value.shape is not None]
        return self.positions is None and all(isinstance(dim, int) or str(dim) == "batch" for s in shapes for dim in s)

    @property
    def from_first(self) -> bool:
        """Whether the graph takes the position of the first token alone, and counts up from it.

        position_ids is then a number, or has one entry (a row) where a call may have many tokens: the form [1] of
        com.microsoft.RotaryEmbedding, or whatever is added to a count.
        """
        if self.positions is None or self.positions.shape is None or self.sequence == 1:
            return False
        shape = self.positions.shape
        return not len(shape) or shape[-1] == 1 or (len(shape) == 1 and str(shape[0]) == "batch")

    def inputs_at(self, positions: np.ndarray, length: int) -> Mapping[ir.Value, np.ndarray]:
        """Inputs of a call with tokens at `positions` [B, S] of sequences of `length` tokens, the past included."""
        sizes, found = self._sizes(positions.shape, length), {}
        for value in self._inputs:
            dims = [size_of(dim, sizes) for dim in value.shape] if value.shape is not None else [None]
            if None in dims:
                continue
            number = value.dtype.numpy()
            if value is self.positions:
                found[value] = np.broadcast_to(self._position_input(positions).astype(number), dims)
            else:
                # Nothing is read but the shape, so nothing is stored: a past of any length fits into memory.
                found[value] = np.broadcast_to(number.type("mask" in value.name), dims)
        return found

    def shaped_like(
        self, values: Iterable[ir.Value], shape: tuple[int, int], length: int
    ) -> Mapping[ir.Value, np.ndarray]:
        """Zeros in the shapes that `values` have in such a call, of those whose axes are known."""
        sizes, found = self._sizes(shape, length), {}
        for value in values:
            dims = [size_of(dim, sizes) for dim in value.shape] if value.shape is not None else [None]
            if None not in dims:
                found[value] = np.broadcast_to(np.float32(0), dims)
        return found

    def _sizes(self, shape: tuple[int, int], length: int) -> Mapping[str, int]:
        batch, sequence = shape
        past = max(0, length - sequence) if self.cached else 0
        return {"batch": batch, "sequence": sequence, "past": past, "total": past + sequence, **self._fixed}

    def _position_input(self, positions: np.ndarray) -> np.ndarray:
        """The value of position_ids for tokens at `positions` [B, S]."""
        rank = len(self.positions.shape)
        given = positions[..., :1] if self.from_first else positions
        if rank >= 2:
            return given
        if rank == 0:
            return given[0, 0]
        return given[:, 0] if str(self.positions.shape[0]) == "batch" else given[0]
