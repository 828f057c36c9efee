"""Whether the sizes that a configuration states can be those of its weights, before memory is taken for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from rope_deploy.errors import EnvironmentMissing, ModelError
from rope_deploy.rope import text_config
from rope_deploy.rope.bounds import require_layers
from rope_deploy.rope.from_config import WIDTH_KEYS
from rope_deploy.rope.read_rule import is_size

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "depth")
HEIGHTS = ("vocab_size", "intermediate_size", "n_inner", "ffn_dim")
SMALLEST = 8  # times that weights grow when they are loaded: from four bits to fp32
SPARE = 1 << 30  # bytes; a matrix that small may as well be wrong for other reasons


def require_memory(config: Mapping[str, Any], where: str, itemsize: int) -> None:
    """Raise UsageError for more layers than any model has, ModelError for one matrix that is larger than all weights in
    the folder `where`, EnvironmentMissing for one that memory cannot hold; `itemsize` in bytes."""
    for part in (config, text_config(config)):
        for key in LAYERS:
            if is_size(part.get(key)):
                require_layers(part[key], "The configuration")
    text = text_config(config)
    width = max((text[key] for key in WIDTH_KEYS if is_size(text.get(key))), default=1)
    height, key = max(((text[key], key) for key in HEIGHTS if is_size(text.get(key))), default=(1, ""))
    needed = height * width * itemsize
    if needed <= SPARE:
        return
    stored = sum(file.stat().st_size for file in Path(where).glob("*.safetensors")) if Path(where).is_dir() else None
    if stored is not None and needed > SMALLEST * stored + SPARE:
        raise ModelError(
            f"{where} has weights of {stored / 1e9:.3g} GB, and its configuration asks for {needed / 1e9:.3g} GB for "
            f"one matrix ({key} {height}).",
            todo="Copy weights and config.json again from one and the same model.",
        )
    if needed > psutil.virtual_memory().available:
        raise EnvironmentMissing(
            f"One matrix of {where} needs {needed / 1e9:.3g} GB ({key} {height}).",
            exists=f"{psutil.virtual_memory().available / 1e9:.3g} GB are free here.",
            todo="Use a machine with more memory.",
        )
