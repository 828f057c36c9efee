"""torch.load refuses while transformers loads a model: some classes open files of their own beside the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch

from rope_deploy.errors import ModelError
from rope_deploy.models.patches.held_once import held_once
from rope_deploy.models.patches.patch import Patch


@contextmanager
def _refused() -> Iterator[None]:
    with mock.patch.object(torch, "load", _refuse):
        yield


def _refuse(file: Any, *_: Any, **__: Any) -> Any:
    raise ModelError(
        f"The model's class opens the pickle file {file}.",
        exists="Weights are read from safetensors and GGUF files alone: pickle files can run code when loaded.",
    )


PICKLE_REFUSED = Patch(
    name="pickle-refused",
    scope="weights",
    target="torch.load",
    reason="A pickle file can run code when it is loaded.",
    versions=("torch 2.13",),
    applies=lambda _: True,
    apply=lambda _: held_once("pickle-refused", _refused),
)
