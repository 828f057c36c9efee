"""Attributes that a model's own code sets on its modules, undone after a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rope_deploy.models.torch_private import own_buffers


@contextmanager
def attributes_restored(model: torch.nn.Module) -> Iterator[None]:
    """Whatever modules of `model` set on themselves inside the block is undone after it.

    Some keep frequencies as plain attributes; under a tracer these are its own tensors, useless afterwards. What is
    written into a tensor in place stays.
    """
    before = [(module, dict(vars(module)), dict(own_buffers(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes, buffers in before:
            for name in vars(module).keys() - attributes.keys():
                del vars(module)[name]
            vars(module).update(attributes)
            own_buffers(module).clear()
            own_buffers(module).update(buffers)
