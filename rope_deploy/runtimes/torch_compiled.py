"""The PyTorch model through torch.compile: what a user of PyTorch alone could have instead of an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from rope_deploy.errors import VendorError, quoted
from rope_deploy.runtimes.protocol import Arrays
from rope_deploy.runtimes.pytorch import TorchRuntime

if TYPE_CHECKING:
    from rope_deploy.models import LoadedModel
    from rope_deploy.runtimes.targets import Target


class CompiledRuntime(TorchRuntime):
    """A model that is compiled by its first run, which takes minutes. Made by `open_compiled`."""

    name = "torch-compile"
    taps = False

    def run(self, feeds: Mapping[str, np.ndarray], taps: bool = False) -> Arrays:
        """Run once; see `runtimes.protocol`. Raises VendorError if compiling fails, e.g. without a C++ compiler."""
        try:
            return super().run(feeds)
        except Exception as error:  # dynamo, inductor and the C++ compiler share no base below Exception
            raise VendorError(
                "torch.compile failed.",
                exists=quoted("PyTorch", error),
                todo="It needs a C++ compiler (g++ or clang++); without one, leave torch-compile out.",
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        import torch

        torch.compiler.reset()


def open_target(target: Target) -> CompiledRuntime:
    """The loaded model of `target`; see `targets`."""
    return open_compiled(target.loaded, threads=target.threads)


def open_compiled(loaded: LoadedModel, *, threads: int | None = None) -> CompiledRuntime:
    """`loaded` compiled for any length and batch; the model itself stays as it is.

    Shapes are dynamic: compiling again for every length of the cache would be timing the compiler.
    """
    import torch

    compiled = torch.compile(loaded.model, dynamic=True)
    return CompiledRuntime(replace(loaded, model=compiled), threads)
