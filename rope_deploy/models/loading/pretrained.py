"""Models that transformers loads: from a folder, a GGUF file or the hub, safetensors only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import RepositoryNotFoundError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from rope_deploy.artifact import Finding
from rope_deploy.artifact.subject import GGUF_ENDING
from rope_deploy.errors import EnvironmentMissing, ModelError, RopeDeployError, quoted
from rope_deploy.models.example_inputs import reads_text
from rope_deploy.models.library_errors import code_line, missing_package
from rope_deploy.models.loading.buffer_proof import prove
from rope_deploy.models.loading.folder_safety import (
    ADAPTER,
    INDEX,
    SPECIAL,
    TOKENIZER,
    TOKENIZERS,
    check_index,
    check_settings,
)
from rope_deploy.models.loading.gguf_header import read_header
from rope_deploy.models.loading.gguf_rotation import require_same_rotation
from rope_deploy.models.loading.locate import ModelLocation
from rope_deploy.models.loading.memory_bounds import require_memory
from rope_deploy.models.loading.stated_rotation import check_file, specs_to_compare
from rope_deploy.models.patches.patched import patched
from rope_deploy.models.transformers_private import classes_by_configuration, without_hub_errors
from rope_deploy.safe_reading import CONFIG_NAME

HUB_SECONDS = 10.0
NO_TOKENIZER = "The model has no tokenizer: none is written, and a check feeds random tokens instead of text."
TASKS = ("AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModel")


def config_from(location: ModelLocation, *, trust_remote_code: bool) -> PreTrainedConfig:
    """The configuration of a located source. Raises ModelError, also for one that brings code that is not trusted;
    ConfigError for values that its class refuses."""
    source = location.source
    _check_cached(location)
    check_file(location.where, trust_remote_code=trust_remote_code)
    try:
        config = AutoConfig.from_pretrained(location.where, trust_remote_code=trust_remote_code, **location.extra)
    except Exception as error:  # transformers raises many kinds, and so do the files it reads
        if "contains custom code" in str(error):
            raise _refused_code(source) from error
        raise _failed(source, error) from error
    if getattr(config, "auto_map", None) and not trust_remote_code:
        raise _refused_code(source)
    return config


def from_pretrained(
    location: ModelLocation,
    *,
    dtype: torch.dtype,
    trust_remote_code: bool,
) -> tuple[PreTrainedModel, dict[str, Any], tuple[Finding, ...]]:
    """The model, its configuration as a dictionary, and what loading had to put right.

    Raises ModelError if it cannot be loaded whole, UsageError for an unknown rope type.
    """
    source = location.source
    config = config_from(location, trust_remote_code=trust_remote_code)
    if reads_text(class_of(config)):
        specs_to_compare(plain(config))  # says what is wrong with the rotation before gigabytes are read
    require_memory(plain(config), location.where, dtype.itemsize)
    try:
        with patched(None, "make"), patched(None, "weights"):
            model, info = _model_class(config).from_pretrained(
                location.where,
                config=config,
                dtype=dtype,
                use_safetensors=None if location.extra else True,
                trust_remote_code=trust_remote_code,
                ignore_mismatched_sizes=True,  # `_require_all_weights` counts them
                output_loading_info=True,
                **location.extra,
            )
    except RopeDeployError:
        raise
    except Exception as error:  # as above
        raise _failed(source, error) from error
    _require_all_weights(source, info)
    findings = prove(model, source, dtype)
    if location.rotation is not None:
        require_same_rotation(Path(source), location.rotation, model)
    # A GGUF model arrives dequantised, but its config still says it is not: transformers would refuse to save it.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    return model, plain(model.config), findings


def _check_cached(location: ModelLocation) -> None:
    """Hold a hub's files to the same rules as a folder's, before they are used.

    A file that cannot be fetched is no fault here: transformers asks for it again, and its failure is reported.
    """
    if location.extra or os.path.isdir(location.where):
        return
    _require_reachable(location.where)
    for name in (CONFIG_NAME, TOKENIZER, SPECIAL, ADAPTER, f"model{INDEX}"):
        try:
            found = cached_file(location.where, name, **without_hub_errors())
        except Exception:  # no such model, no connection: huggingface_hub has an error for each
            return
        if found is not None and name.endswith(INDEX):
            check_index(Path(found), present=False)
        elif found is not None:
            check_settings(Path(found).parent)


def _require_reachable(name: str) -> None:
    """Raise ModelError for a model that is neither in Hugging Face's cache nor on the hub.

    Asked once, and before transformers does: it asks for one file after another, and six times each.
    """
    nowhere = f"{name} cannot be loaded: there is no such folder here, and none came from the hub."
    todo = "Give a local folder or a .gguf file, or check the name and the connection."
    try:
        if not isinstance(try_to_load_from_cache(name, CONFIG_NAME), str):
            HfApi().model_info(name, timeout=HUB_SECONDS)
    except RepositoryNotFoundError as error:
        raise ModelError(nowhere, exists="The hub shows no model of that name.", todo=todo) from error
    except Exception as error:  # no connection, offline by choice, no name at all: its client has an error for each
        raise ModelError(nowhere, exists=quoted("huggingface_hub", error), todo=todo) from error


def tokenizer_from(location: ModelLocation, *, trust_remote_code: bool) -> tuple[Any, tuple[Finding, ...]]:
    """The tokenizer, or None with a finding: a model without one is still a model."""
    try:
        # Without an explicit answer, transformers asks on standard input whether to trust a tokenizer's own code.
        found = AutoTokenizer.from_pretrained(location.where, trust_remote_code=trust_remote_code, **location.extra)
    except Exception as error:  # transformers has no one error for it
        return None, (_no_tokenizer(location, quoted("transformers", error)),)
    # Where there is no tokenizer, transformers may make up one that knows its special tokens and no others.
    if len(found) > len(found.all_special_ids):
        return found, ()
    return None, (_no_tokenizer(location, "It knows no tokens but special ones."),)


def _no_tokenizer(location: ModelLocation, why: str) -> Finding:
    """The finding for a tokenizer that cannot be read, for the reason `why`, or that is not there."""
    if location.extra:
        settings = read_header(Path(location.source)).settings
        files = ["tokenizer.ggml"] if any(key.startswith("tokenizer.") for key in settings) else []
    else:
        files = [name for name in TOKENIZERS if os.path.isfile(os.path.join(location.where, name))]
    message = f"Its tokenizer ({', '.join(files)}) cannot be read and is left out. {why}" if files else NO_TOKENIZER
    return Finding("no-tokenizer", "info", message)


def plain(config: PreTrainedConfig) -> dict[str, Any]:
    """`config` as JSON has it, without the path it was loaded from."""
    settings = json.loads(config.to_json_string(use_diff=False))
    settings.pop("_name_or_path", None)
    return settings


def _model_class(config: PreTrainedConfig):
    """The class the config names, its own or transformers', else the one for the first task its type is known for."""
    own = getattr(config, "auto_map", None) or {}
    for task in TASKS:
        if task in own:
            return getattr(transformers, task)
    for name in _names(config.architectures):
        found = getattr(transformers, name, None) or _beside(config, name)
        if isinstance(found, type) and issubclass(found, PreTrainedModel):
            return found
    for task in TASKS[:-1]:
        if type(config) in classes_by_configuration(getattr(transformers, task)):
            return getattr(transformers, task)
    return transformers.AutoModel


def _names(architectures: object) -> list[str]:
    """Raises ModelError for what is no list of names."""
    if architectures is None:
        return []
    if not isinstance(architectures, list | tuple) or not all(isinstance(name, str) for name in architectures):
        raise ModelError(
            f"The configuration states architectures as {architectures!r}, which is no list of names.",
            todo="Copy config.json again from where the model came.",
        )
    return list(architectures)


def _beside(config: PreTrainedConfig, name: str) -> Any:
    """What the modeling file next to the configuration's calls `name`: parts of a model are not always exported.

    None for a file that cannot be imported: the Auto classes are asked next, and report it.
    """
    package, _, file = type(config).__module__.rpartition(".")
    if not package.startswith("transformers.models.") or not file.startswith("configuration_"):
        return None
    try:
        return getattr(import_module(f"{package}.{file.replace('configuration_', 'modeling_', 1)}"), name, None)
    except ImportError:
        return None


def class_of(config: PreTrainedConfig) -> Any:
    """The class of model that is made of `config`; an Auto class if it is known to that alone."""
    kind = _model_class(config)
    mapping = classes_by_configuration(kind)
    found = mapping[type(config)] if mapping is not None and type(config) in mapping else kind
    return found[0] if isinstance(found, (tuple, list)) else found


def _require_all_weights(source: str, info: Mapping[str, Any]) -> None:
    """transformers fills what a checkpoint lacks with random numbers; such a model is not worth exporting."""
    missing = sorted(info.get("missing_keys") or ())
    mismatched = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info.get("mismatched_keys") or ())
    if missing or mismatched:
        faults = [f"{len(missing)} are missing ({_some(missing)})"] if missing else []
        faults += [f"{len(mismatched)} have another size ({_some(mismatched)})"] if mismatched else []
        raise ModelError(
            f"The weights of {source} do not fit its configuration: {' and '.join(faults)}.",
            todo="Copy weights and config.json again from one and the same model.",
        )


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")


def _refused_code(source: str) -> ModelError:
    return ModelError(
        f"{source} brings its own Python code (auto_map in config.json).",
        exists="Running it means trusting its author with this machine.",
        todo="Give --trust-remote-code if you do.",
    )


def _failed(source: str, error: Exception) -> RopeDeployError:
    if isinstance(error, ImportError):
        return missing_package(source, error)
    if isinstance(error, MemoryError):
        return EnvironmentMissing(f"Memory ran out while loading {source}.", todo="Use a machine with more memory.")
    why, todo = _reason(source, error)
    return ModelError(f"{source} cannot be loaded: {why}.", exists=quoted("transformers", error), todo=todo)


def _reason(source: str, error: Exception) -> tuple[str, str]:
    """Why loading failed, as far as transformers' message shows, and what to do."""
    text, version = f"{type(error).__name__} {error}".lower(), f"transformers {transformers.__version__}"
    if "couldn't connect" in text or "is not a local folder" in text or "offline" in text:
        todo = "Give a local folder or a .gguf file, or check the name and the connection."
        return "there is no such folder here, and none came from the hub", todo
    if source.lower().endswith(GGUF_ENDING) or "safetensor" in text or "header" in text:
        todo = "The file looks damaged or incomplete: compare its size with the original and copy it again."
        return "a file of it cannot be read", todo
    if "does not recognize this architecture" in text:
        return f"{version} does not know its model type", "A newer one may: `pip install -U transformers`."
    looked = f": it looks for {error}, which is not there" if isinstance(error, KeyError) else ""
    return f"{version} stopped at it{looked}, in {code_line(error)}", "Check that transformers itself loads this model."
