"""The one context manager that puts patches in place, and the proof that none is.

`patched` raises EnvironmentMissing where the target of a patch has changed or is gone; `patches_in` raises nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from types import FunctionType
from typing import Any

import torch

from rope_deploy.models.module_tree import python_modules
from rope_deploy.models.patches.all_patches import PATCHES
from rope_deploy.models.patches.attention_and_mask import own_settings
from rope_deploy.models.patches.held_once import held_once
from rope_deploy.models.patches.patch import Scope
from rope_deploy.models.torch_private import uncompiled

HERE = __name__.rpartition(".")[0]


def patched(model: torch.nn.Module | None, scope: Scope) -> AbstractContextManager[tuple[str, ...]]:
    """Inside the block every patch of `scope` that applies to `model` is in place; gives their names, in order.

    `model` is None in the scopes before there is one. Blocks may be nested or overlap: the first one puts the patches
    in place, the last one takes them away. Raises EnvironmentMissing where the target of a patch has changed.
    """
    model = None if model is None else uncompiled(model)
    return held_once((id(model), scope), lambda: _in_place(model, scope))


@contextmanager
def _in_place(model: torch.nn.Module | None, scope: Scope) -> Iterator[tuple[str, ...]]:
    with ExitStack() as stack:
        wanted = [patch for patch in PATCHES if patch.scope == scope and patch.applies(model)]
        for patch in wanted:
            stack.enter_context(patch.apply(model))
        yield tuple(patch.name for patch in wanted)


def patches_in(model: torch.nn.Module) -> list[str]:
    """What of `model`, of its parts and of the Python modules that define them is ours now, by name."""
    found = [
        f"{path or type(part).__name__}.{name}"
        for path, part in model.named_modules()
        for name, value in vars(part).items()
        if _is_ours(value)
    ]
    for module in python_modules(model):
        found += [f"{module.__name__}.{name}" for name, value in vars(module).items() if _is_ours(value)]
    return found + own_settings(model)


def _is_ours(value: Any) -> bool:
    function = value.func if isinstance(value, partial) else getattr(value, "__func__", value)
    return isinstance(function, FunctionType) and str(function.__module__).startswith(f"{HERE}.")
