"""Run what reads no text: the vision or audio tower of a model, or a model that is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from rope_deploy.models.example_inputs import cast, example_of
from rope_deploy.models.reference.tower_rotations import tower_rotations


def run_tower(model: torch.nn.Module, feeds: Mapping[str, np.ndarray], taps: bool = False) -> dict[str, np.ndarray]:
    """Run the tower once on named numpy arrays, its fixed arguments among them; half-precision comes back as float32.

    `taps` adds those of `rope_deploy.models.reference.tower_rotations`.
    """
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in feeds.items()}
    with torch.no_grad(), tower_rotations(model) if taps else nullcontext() as rotations:
        output = model(**cast(example_of(tensors), dtype).arguments)
    found = {**tower_results(output), **(rotations.taps() if rotations is not None else {})}
    return {name: tensor.detach().to(_kept(tensor.dtype)).contiguous().numpy() for name, tensor in found.items()}


def _kept(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def tower_results(output: Any) -> dict[str, torch.Tensor]:
    """Every floating-point tensor that a tower returns, by name; members of a list are NAME.0, NAME.1, …

    What it returns under two names has the first.
    """
    found: dict[str, torch.Tensor] = {}
    for name, tensor in _named(output, ""):
        if tensor.is_floating_point() and all(tensor is not known for known in found.values()):
            found[name] = tensor
    return found


def _named(output: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(output, torch.Tensor):
        yield name or "last_hidden_state", output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from _named(value, f"{name}.{key}" if name else str(key))
    elif isinstance(output, (list, tuple)):
        for number, value in enumerate(output):
            yield from _named(value, f"{name or 'output'}.{number}")
