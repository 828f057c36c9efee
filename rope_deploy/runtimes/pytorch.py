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

    def __init__(self, loaded: LoadedModel):
        self._loaded = loaded

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        from rope_deploy.models import run_reference

        return run_reference(self._loaded, dict(feeds), taps)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The model stays with its owner."""


def open_torch(loaded: LoadedModel) -> TorchRuntime:
    """Wrap what `models.load_model` returned. Importing torch is left to the first run."""
    return TorchRuntime(loaded)
