"""Run the PyTorch model behind the same interface: the reference."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from rope_deploy.runtimes.base import Arrays

if TYPE_CHECKING:
    from rope_deploy.models import LoadedModel


class TorchRuntime:
    """A loaded model. Made by `open_torch`."""

    name = "torch"
    taps = True

    def __init__(self, loaded: LoadedModel, threads: int | None = None):
        self._loaded, self._threads, self._before = loaded, threads, 0

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        from rope_deploy.models import run_reference

        cache = any(name.startswith("past_key_values.") for name in feeds)  # of length 0 in a first prompt
        return run_reference(self._loaded, dict(feeds), taps, cache=cache)

    def __enter__(self) -> Self:
        if self._threads is not None:
            import torch

            self._before = torch.get_num_threads()
            torch.set_num_threads(self._threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The model stays with its owner; the number of threads becomes what it was."""
        if self._before:
            import torch

            torch.set_num_threads(self._before)


def open_torch(loaded: LoadedModel, *, threads: int | None = None) -> TorchRuntime:
    """Wrap what `models.load_model` returned. `threads` holds for all of PyTorch while the runtime is entered."""
    return TorchRuntime(loaded, threads)
