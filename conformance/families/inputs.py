"""What a model is fed: tokens, or what the product itself would feed a tower."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch

from conformance.families.census import Family
from conformance.families.shrink import VOCAB
from rope_deploy.models import example_inputs

BATCH, LENGTH = 2, 7
FIRST_WORD, LAST_WORD = 5, VOCAB - 20  # others have a meaning


def possible_inputs(family: Family, model: torch.nn.Module) -> Iterator[dict[str, Any]]:
    """Keyword arguments for the model's forward, the likeliest first; a model takes the first that it runs with."""
    names = inspect.signature(model.forward).parameters
    if "input_ids" in names and family.category not in ("vision", "audio"):
        yield {name: made for name, made in text().items() if name in names}
    else:
        yield from example_inputs.possible_arguments(model)


def text(batch: int = BATCH, length: int = LENGTH, seed: int = 1) -> dict[str, torch.Tensor]:
    """Tokens to read and to write; all of them real."""
    ids = torch.randint(FIRST_WORD, LAST_WORD, (batch, length), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": ids}
