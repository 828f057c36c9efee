"""The interface of every runtime: a context manager with one method, `run`.

Named numpy arrays go in, named numpy arrays come out; the names are those of the artifact (see
`rope_deploy.artifact`). With `taps=True` the result also holds, as far as this runtime can see them:

    rotated.{layer}.{q|k}    [B, N, S, H]      q and k as the rotation leaves them
    unrotated.{layer}.{q|k}  [B, N, S, H]      the same before the rotation
    products.{layer}         [B, N, S, total]  q·k for every key a query sees, where the attention is fused and
                                               q itself exists only inside the operator (causal: a query sees
                                               the keys up to its own)

B batch, S tokens in this call, N heads, H head_dim, total = past + S.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

import numpy as np

Arrays = dict[str, np.ndarray]


class Runtime(Protocol):
    """One open model. `taps` says whether `run(feeds, taps=True)` adds what it sees inside."""

    @property
    def name(self) -> str: ...

    @property
    def taps(self) -> bool: ...

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Measurable(Runtime, Protocol):
    """A runtime whose own error can be measured: `exact` is the same model in a wider type, or None."""

    @property
    def exact(self) -> Runtime | None: ...


class Reference(Measurable, Protocol):
    """What a check compares with: PyTorch.

    `untouched` is the same model as its library runs it, before the first token of a text, its output named `result`;
    None where it cannot be had.
    """

    def untouched(self, result: str) -> Measurable | None: ...
