"""Functions of a model's own Python modules, replaced for as long as a block lasts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType

import torch

# The name and the function -> what stands in its place, None to leave it.
Substitute = Callable[[str, FunctionType], Callable | None]


def _modules_of(model: torch.nn.Module) -> set[ModuleType]:
    """The Python modules that define the parts of the model, PyTorch's own left out."""
    names = {type(part).__module__ for part in model.modules()}
    return {sys.modules[name] for name in names if not name.startswith("torch.") and name in sys.modules}


@contextmanager
def functions_replaced(model: torch.nn.Module, substitute: Substitute) -> Iterator[None]:
    """Inside the block `substitute` decides what the names of functions in the model's modules stand for."""
    before = [
        (module, name, function)
        for module in _modules_of(model)
        for name, function in vars(module).items()
        if isinstance(function, FunctionType)
    ]
    after = [(*one, ours) for one in before if (ours := substitute(*one[1:])) is not None]
    for module, name, _, ours in after:
        setattr(module, name, ours)
    try:
        yield
    finally:
        for module, name, function, _ in after:
            setattr(module, name, function)
