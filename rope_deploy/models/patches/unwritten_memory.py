"""Memory that PyTorch hands out unwritten holds NaN while a model is made.

transformers 5 makes models without memory and then gives buffers memory that nothing was written to. What lies there
looks like numbers; NaN shows that nothing was written.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from rope_deploy.models.patches.held_once import held_once
from rope_deploy.models.patches.patch import Patch


def nan_in_unwritten_memory():
    """Inside the block, memory that PyTorch hands out unwritten holds NaN, or the largest integer."""
    return held_once("unwritten-memory", _filled)


@contextmanager
def _filled() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with ExitStack() as stack:
        stack.callback(torch.use_deterministic_algorithms, before[0], warn_only=before[1])
        torch.use_deterministic_algorithms(True, warn_only=True)
        # A property without a deleter, which mock.patch.object would need.
        settings = torch.utils.deterministic
        stack.callback(setattr, settings, "fill_uninitialized_memory", settings.fill_uninitialized_memory)
        settings.fill_uninitialized_memory = True
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
        yield


UNWRITTEN_MEMORY = Patch(
    name="unwritten-memory",
    scope="make",
    target="torch.utils.deterministic.fill_uninitialized_memory",
    reason="Unwritten memory has to differ from computed values.",
    versions=("torch 2.13",),
    applies=lambda _: True,
    apply=lambda _: nan_in_unwritten_memory(),
)
