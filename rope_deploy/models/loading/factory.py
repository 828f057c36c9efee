"""Make models by the user's own function."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedConfig

from rope_deploy.errors import ModelError, quoted
from rope_deploy.models.library_errors import lacks_package, missing_package
from rope_deploy.models.loading.buffer_proof import require_written
from rope_deploy.models.loading.pretrained import plain
from rope_deploy.models.module_tree import pretrained_parts
from rope_deploy.models.patches.patched import patched
from rope_deploy.models.torch_private import computed_buffers, own_buffers, own_parameters


def from_factory(source: str) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The module that package.module:function returns, and its configuration as a dictionary ({} if it has none).

    Raises ModelError if there is no such function, if it fails, or if it returns something else or a module that was
    not written to whole, EnvironmentMissing if it imports a package that is absent.
    """
    with _importable_here(), patched(None, "make"):
        model = _made(source)
    if not isinstance(model, torch.nn.Module):
        raise ModelError(f"{source} returned {type(model).__name__}, not a torch.nn.Module.")
    require_written(model, source)
    return model, _config(model)


def _made(source: str) -> Any:
    module_name, _, attribute = source.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        if lacks_package(error) and not f"{module_name}.".startswith(f"{error.name}."):
            raise missing_package(source, error) from error
        raise ModelError(
            f"The factory {source} cannot be imported.",
            exists=quoted("Python", error),
            todo="Write it as package.module:function, importable from where you stand.",
        ) from error
    try:
        return factory()
    except Exception as error:  # the user's code may raise anything
        if lacks_package(error):
            raise missing_package(source, error) from error
        raise ModelError(
            f"The factory {source} failed.",
            exists=quoted("Its code", error),
            todo="It is called without arguments; --traceback shows where it failed.",
        ) from error


@contextmanager
def _importable_here() -> Iterator[None]:
    """Modules of the working directory can be imported, which a console script alone does not provide for."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def cast(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """`module` with its floating-point parameters and stored buffers in `dtype`, in place.

    Buffers that a module computes for itself (frequencies, sine tables) keep their type, as when transformers loads
    a model: frequencies rounded to a half type are off by whole revolutions at long positions.
    """
    for part in module.modules():
        for name, tensor in [*own_parameters(part).items(), *own_buffers(part).items()]:
            computed = name in computed_buffers(part) or name.endswith("inv_freq")
            if tensor is not None and tensor.is_floating_point() and not computed:
                tensor.data = tensor.data.to(dtype)
    return module


def _config(model: torch.nn.Module) -> dict[str, Any]:
    """The module's own configuration, or that of the one model of transformers it wraps."""
    config = getattr(model, "config", None)
    if config is None:
        inner = pretrained_parts(model)
        config = inner[0].config if len(inner) == 1 else None
    if isinstance(config, PreTrainedConfig):
        return plain(config)
    return dict(config) if isinstance(config, Mapping) else {}
