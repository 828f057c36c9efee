"""What the files of a model folder would make transformers open, refused where that lies elsewhere or is a pickle.

The files come from somebody else, and they name other files: an index its parts, a configuration its weights, its code
and its tokenizer's files. Every such name must be plain, that is, stand for a file of the folder itself; what the file
is in the end does not matter: Hugging Face's cache keeps nothing but links to blobs, and weights are often links to
another disk.

Checked before any library sees the folder, against transformers 5.0 to 5.23.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rope_deploy.errors import ModelError
from rope_deploy.safe_reading import CONFIG_NAME, parse_json, read_bytes

TOKENIZER, ADAPTER = "tokenizer_config.json", "adapter_config.json"
GENERATION, SPECIAL = "generation_config.json", "special_tokens_map.json"
TOKENIZERS = (TOKENIZER, "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
SAFE, INDEX = ".safetensors", ".safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
VOCABULARIES = ("vocab", "merges")  # settings of a tokenizer that, as a text, are the name of a file
CODE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")  # module.Class, of a module beside config.json
IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")
FROM_THE_HUB = re.compile(r"[/:@]")  # of an implementation: owner/kernel, to be downloaded and run


def check_folder(folder: Path) -> None:
    """Raise ModelError for a folder that transformers could not open, or that would make it open something else."""
    names = sorted(path.name for path in folder.iterdir())
    if CONFIG_NAME not in names:
        raise ModelError(
            f"{folder} is no model folder: it has no {CONFIG_NAME}.",
            exists=f"It holds: {_listed(names)}.",
            todo="Give the folder that save_pretrained wrote.",
        )
    check_settings(folder)
    for name in names:
        if name.endswith((SAFE, ".json")) and not (folder / name).is_file():
            raise ModelError(f"{folder / name} is no file that can be read.", todo="Copy it again.")
        if name.endswith(INDEX):
            check_index(folder / name)
    if any(name.endswith(SAFE) for name in names):
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


def check_settings(folder: Path, *, config: bool = True) -> None:
    """The files of settings in `folder` that are there: is what they name plain? Raises ModelError.

    `config`: whether config.json is one of them; beside a GGUF file it is not read.
    """
    if (folder / ADAPTER).exists():
        raise ModelError(
            f"{folder} holds an adapter ({ADAPTER}), which changes the model or is loaded from elsewhere.",
            todo="Merge it first: model.merge_and_unload().save_pretrained(FOLDER).",
        )
    if config and (path := folder / CONFIG_NAME).exists():
        _check_config(path, read_json(path))
    for name in (TOKENIZER, SPECIAL):
        if (path := folder / name).exists():
            _check_tokenizer(path, read_json(path))
    if config and (path := folder / GENERATION).exists():
        read_json(path)  # transformers uses one of its own instead of what it cannot read


def check_index(path: Path, *, present: bool = True) -> None:
    """Raise ModelError unless every part that the index `path` names is a safetensors file beside it.

    Without `present`, parts may still have to be downloaded.
    """
    parts = read_json(path).get("weight_map")
    if not isinstance(parts, Mapping) or not all(isinstance(name, str) for name in parts.values()):
        raise ModelError(
            f"{path} does not say which file holds which weight (weight_map).",
            todo="Copy it again from where the model came.",
        )
    for name in sorted(set(parts.values())):
        _require_weights(path, "weight_map", name, SAFE)
        if present and not (path.parent / name).is_file():
            raise ModelError(
                f"{path} names {name!r}, and there is no such file beside it.",
                todo="Copy all parts of the model there.",
            )


def read_json(path: Path) -> dict[str, Any]:
    """The settings in `path`. Raises ModelError where it holds anything else."""
    if not path.is_file():
        raise ModelError(f"{path} is no file that can be read.", todo="Copy it again.")
    try:
        content = parse_json(read_bytes(path))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}.", todo="Copy it again from where the model came.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, not the settings of a model.")
    return content


def _check_config(path: Path, settings: Mapping[str, Any]) -> None:
    _check_code(path, settings)
    for where, key, value in _entries(settings):
        if key == "transformers_weights" and value is not None:
            _require_weights(path, where, value, SAFE, INDEX)
            if not (path.parent / value).is_file():
                raise ModelError(f"{path} names {value!r} ({where}), and there is no such file beside it.")
        if key.lstrip("_") in IMPLEMENTATIONS and isinstance(value, str) and FROM_THE_HUB.search(value):
            raise ModelError(
                f"{path} asks for {value!r} ({where}), code that would be downloaded and run.",
                todo="Remove that entry.",
            )
    method = settings.get("quantization_config")
    if isinstance(method, Mapping) and method.get("quant_method") == "gguf":
        raise ModelError(f"{path} says that the weights are a GGUF file.", todo="Give that .gguf file itself.")


def _check_tokenizer(path: Path, settings: Mapping[str, Any]) -> None:
    _check_code(path, settings)
    for where, key, value in _entries(settings):
        named = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        for name in (one for one in named if isinstance(one, str)):
            # Paths of the machine it was made on are often left behind; they do no harm where they lead nowhere.
            if key == "init_inputs" or key.endswith(("_file", "_files")):
                harm = not _plain(name) and _leads_somewhere(path.parent, name)
            elif (
                key in VOCABULARIES and name is value
            ):  # tokenizers opens the file of that name, wherever the command runs
                harm = _opens(name)
            else:  # whatever else a class passes on; a token may look like a path, "/" for one, and is no file
                harm = not _plain(name) and _opens(name)
            if harm:
                raise _elsewhere(path, where, name)


def _check_code(path: Path, settings: Mapping[str, Any]) -> None:
    """Code that comes with a model lies beside its settings; whether it may run is asked elsewhere."""
    for where, _, value in _entries(settings):
        if "auto_map" not in where.split(".") or isinstance(value, Mapping):
            continue
        for name in value if isinstance(value, (list, tuple)) else [value]:
            if name is not None and not (isinstance(name, str) and CODE.fullmatch(name)):
                raise ModelError(
                    f"{path} takes its code from {name!r} ({where}), which is not in the folder.",
                    exists="--trust-remote-code trusts what lies in the folder, as MODULE.CLASS.",
                    todo="Copy that module there and name it so, if you trust it.",
                )


def _entries(settings: Any, where: str = "") -> Iterator[tuple[str, str, Any]]:
    """(dotted key, last key, value) of everything in nested settings, lists of settings included."""
    todo = [(where, settings)]
    while todo:
        where, content = todo.pop()
        if isinstance(content, Mapping):
            for key, value in content.items():
                here = f"{where}.{key}" if where else key
                yield here, key, value
                todo.append((here, value))
        elif isinstance(content, list):
            todo += [(where, one) for one in content if isinstance(one, (Mapping, list))]


def _require_weights(path: Path, where: str, name: Any, *endings: str) -> None:
    if not isinstance(name, str) or not _plain(name):
        raise _elsewhere(path, where, name)
    if not name.endswith(endings):
        raise ModelError(
            f"{path} names {name!r} ({where}), which is no safetensors file.",
            exists="Weights are read from safetensors files alone: others can run code when loaded.",
            todo="Convert the model once with model.save_pretrained(folder) in an environment you trust.",
        )


def _plain(name: str) -> bool:
    return bool(name) and name not in (".", "..") and not set(name) & set("/\\\0:")


def _leads_somewhere(folder: Path, name: str) -> bool:
    """Whether `name` is a path of something that exists; what is no path at all is not."""
    try:
        return Path(name).expanduser().exists() or (folder / name).exists()
    except (ValueError, OSError, RuntimeError):  # no path at all
        return False


def _opens(name: str) -> bool:
    """Whether `name` is a path of a file that exists; what is no path at all is not."""
    try:
        return Path(name).expanduser().exists() and not Path(name).expanduser().is_dir()
    except (ValueError, OSError, RuntimeError):
        return False


def _elsewhere(path: Path, where: str, name: Any) -> ModelError:
    return ModelError(
        f"{path} names {name!r} ({where}), which is not a plain name of a file beside it.",
        todo="Files of a model lie in its folder: copy it again from where it came.",
    )


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more
