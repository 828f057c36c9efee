"""A model's config.json, read from disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rope_deploy.errors import ConfigError
from rope_deploy.safe_reading import CONFIG_NAME, parse_json, read_bytes


def read_config_file(path: Path) -> Mapping[str, Any]:
    """The mapping in `path`, or in the config.json of the folder `path`. Raises ConfigError for anything else."""
    todo = "Give the model's config.json, or its folder."
    path = Path(path) / CONFIG_NAME if os.path.isdir(path) else Path(path)
    try:
        read = parse_json(read_bytes(path))
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}.", todo=todo) from None
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.", todo=todo) from None
    if not isinstance(read, dict):
        raise ConfigError(f"{path} is not a model's configuration: it holds no mapping.", todo=todo)
    return read
