"""The files that make an artifact usable without the model: configuration, generation settings, tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

from rope_deploy.artifact import write_utf8
from rope_deploy.models.loaded_model import LoadedModel
from rope_deploy.safe_reading import CONFIG_NAME


def save_companions(loaded: LoadedModel, folder: Path) -> None:
    """Write config.json and, where the model has them, generation_config.json and the tokenizer's files."""
    write_utf8(folder / CONFIG_NAME, json.dumps(loaded.config, indent=2, sort_keys=True) + "\n")
    generation = getattr(loaded.model, "generation_config", None)
    if generation is not None:
        # Not save_pretrained: it refuses settings that are merely unused, such as a temperature without sampling.
        write_utf8(folder / "generation_config.json", generation.to_json_string())
    if loaded.tokenizer is not None:
        loaded.tokenizer.save_pretrained(folder)
