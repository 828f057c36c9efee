"""What a module is made of: models of transformers inside it, and the Python modules that define its parts."""

from __future__ import annotations

import sys
from types import ModuleType

import torch
from transformers import PreTrainedModel


def pretrained_parts(module: torch.nn.Module) -> list[PreTrainedModel]:
    """The outermost models of transformers in `module`, itself included."""
    if isinstance(module, PreTrainedModel):
        return [module]
    return [part for child in module.children() for part in pretrained_parts(child)]


def python_modules(model: torch.nn.Module) -> set[ModuleType]:
    """The Python modules that define the parts of `model`, PyTorch's own left out."""
    names = {type(part).__module__ for part in model.modules()}
    return {sys.modules[name] for name in names if not name.startswith("torch.") and name in sys.modules}
