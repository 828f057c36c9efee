"""Where a model comes from, and what is refused before any library opens it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rope_deploy.errors import ModelError
from rope_deploy.models.gguf import check_gguf

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
KINDS = "Give a Hugging Face folder, a .gguf file, a hub name (owner/name) or package.module:factory."


def is_factory(source: str) -> bool:
    """package.module:function, unless a file of that name lies here."""
    return ":" in source and not Path(source).exists()


def locate(source: str) -> tuple[str, dict[str, Any]]:
    """What transformers is to open, and its extra keywords: a GGUF file is a folder plus a file name.

    Raises ModelError for a path that is nothing transformers could open, and for a folder without safetensors.
    """
    path = Path(source)
    if not source.strip():
        raise ModelError("No model was named.", todo=KINDS)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"There is no file {source}.", todo="Give the path of an existing .gguf file.")
        check_gguf(path)
        return str(path.parent), {"gguf_file": path.name}
    if path.is_dir():
        _check_folder(path)
        return source, {}
    if path.exists() or path.is_absolute() or source.count("/") > 1 or source.startswith((".", "~")):
        raise ModelError(
            f"{source} is no model folder.",
            exists="It is a file of an unknown kind." if path.exists() else "There is no such folder.",
            todo=KINDS,
        )
    return source, {}


def _check_folder(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    if "config.json" not in names:
        raise ModelError(
            f"{folder} is no model folder: it has no config.json.",
            exists=f"It holds: {_listed(names)}.",
            todo="Give the folder that save_pretrained wrote.",
        )
    _check_json(folder / "config.json")
    if any(name.endswith(".safetensors") for name in names):
        return
    if pickles := [name for name in names if name.endswith(PICKLES)]:
        raise ModelError(
            f"{folder} has no safetensors weights.",
            exists=f"It has {_listed(pickles)}: pickle files can run code when loaded, so they are refused.",
            todo="Convert it once with model.save_pretrained(folder) in an environment you trust.",
        )
    raise ModelError(
        f"{folder} has no safetensors weights.",
        exists=f"It holds: {_listed(names)}.",
        todo="Copy model.safetensors (or all its parts and model.safetensors.index.json) there.",
    )


def _check_json(path: Path) -> None:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:  # not UTF-8, or not JSON
        raise ModelError(f"{path} is not JSON: {error}.", todo="Copy it again from where the model came.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, not the settings of a model.")


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more
