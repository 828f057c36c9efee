"""Whole numbers that modules keep as buffers (strides, indices) are plain attributes while a tower is traced.

A tracer follows every buffer, and stops where Python asks for its value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch

from rope_deploy.models.example_inputs import reads_text
from rope_deploy.models.patches.patch import Patch
from rope_deploy.models.torch_private import own_buffers


def _kept(model: torch.nn.Module) -> list[tuple[torch.nn.Module, str, torch.Tensor]]:
    return [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in own_buffers(module).items()
        if buffer is not None and not buffer.is_floating_point() and not buffer.is_complex()
    ]


@contextmanager
def _as_attributes(model: torch.nn.Module) -> Iterator[None]:
    with ExitStack() as stack:
        for module, name, buffer in _kept(model):
            stack.enter_context(mock.patch.dict(own_buffers(module)))  # gives back the buffers in their order
            del own_buffers(module)[name]
            stack.enter_context(mock.patch.dict(vars(module), {name: buffer}))
        yield


WHOLE_NUMBER_BUFFERS = Patch(
    name="whole-number-buffers",
    scope="trace",
    target="integer buffers of torch.nn.Module",
    reason="A tower reads numbers out of tensors whose values a tracer does not know.",
    versions=("torch 2.13",),
    applies=lambda model: not reads_text(model) and bool(_kept(model)),
    apply=_as_attributes,
)
