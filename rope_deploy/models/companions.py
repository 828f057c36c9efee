"""The files that make an artifact usable without the model: configuration, generation settings, tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

from rope_deploy.models.load import LoadedModel


def save_companions(loaded: LoadedModel, folder: Path) -> None:
    """Write config.json and, where the model has them, generation_config.json and the tokenizer's files."""
    (folder / "config.json").write_text(json.dumps(loaded.config, indent=2, sort_keys=True) + "\n")
    generation = getattr(loaded.model, "generation_config", None)
    if generation is not None:
        # Not save_pretrained: it refuses settings that are merely unused, such as a temperature without sampling.
        (folder / "generation_config.json").write_text(generation.to_json_string())
    if loaded.tokenizer is not None:
        loaded.tokenizer.save_pretrained(folder)
