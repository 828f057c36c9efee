"""Functions of the Python modules that define a model, replaced for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType, ModuleType
from unittest import mock

import torch

from rope_deploy.models.module_tree import python_modules


def module_functions(model: torch.nn.Module) -> Iterator[tuple[ModuleType, str, FunctionType]]:
    """Every function that a Python module of `model` has a name for: the module, the name, the function."""
    for module in python_modules(model):
        for name, function in list(vars(module).items()):
            if isinstance(function, FunctionType):
                yield module, name, function


@contextmanager
def functions_replaced(
    model: torch.nn.Module, substitute: Callable[[str, FunctionType], Callable | None]
) -> Iterator[None]:
    """Inside the block the names of functions in the modules of `model` stand for what `substitute` gives for the name
    and the function; None leaves it."""
    with ExitStack() as stack:
        for module, name, function in list(module_functions(model)):
            if (ours := substitute(name, function)) is not None:
                stack.enter_context(mock.patch.object(module, name, ours))
        yield
