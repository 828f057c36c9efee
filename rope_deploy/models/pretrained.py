"""Models that transformers loads: from a folder, a GGUF file or the hub, safetensors only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from rope_deploy.errors import EnvironmentMissing, ModelError, RopeDeployError
from rope_deploy.models.inputs import reads_text
from rope_deploy.models.packages import missing_package
from rope_deploy.rope import specs_from_config

TASKS = ("AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModel")


def config_from(source: str, where: str, extra: Mapping[str, Any], *, trust_remote_code: bool) -> PreTrainedConfig:
    """The configuration of a located source. Raises ModelError, also for one that brings code that is not trusted."""
    try:
        config = AutoConfig.from_pretrained(where, trust_remote_code=trust_remote_code, **extra)
    except Exception as error:  # transformers raises many kinds, and so do the files it reads
        if "contains custom code" in str(error):
            raise _refused_code(source) from error
        raise _failed(source, error) from error
    if getattr(config, "auto_map", None) and not trust_remote_code:
        raise _refused_code(source)
    return config


def from_pretrained(
    source: str,
    where: str,
    extra: Mapping[str, Any],
    *,
    dtype: torch.dtype,
    trust_remote_code: bool,
    overrides: Mapping[str, Any],
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model and its configuration as a dictionary. `overrides` replaces entries before the model is made.

    Raises ModelError if it cannot be loaded whole, UsageError for an unknown rope type.
    """
    config = config_from(source, where, extra, trust_remote_code=trust_remote_code)
    for key, value in overrides.items():
        setattr(config, key, value)
    if reads_text(class_of(config)):
        specs_from_config(plain(config))  # says what is wrong with the rotation before gigabytes are read
    try:
        model, info = _model_class(config).from_pretrained(
            where,
            config=config,
            dtype=dtype,
            use_safetensors=None if extra else True,
            trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=True,  # they are counted below, in our words
            output_loading_info=True,
            **extra,
        )
    except RopeDeployError:
        raise
    except Exception as error:  # as above
        raise _failed(source, error) from error
    _require_all_weights(source, info)
    # A GGUF model arrives dequantised, but its config still says it is not: transformers would refuse to save it.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    return model, plain(model.config)


def tokenizer_from(where: str, extra: Mapping[str, Any], *, trust_remote_code: bool) -> Any:
    """The tokenizer, or None: a model without one is still a model."""
    try:
        # Without an explicit answer, transformers asks on standard input whether to trust a tokenizer's own code.
        found = AutoTokenizer.from_pretrained(where, trust_remote_code=trust_remote_code, **extra)
    except Exception:  # transformers has no one error for it
        return None
    # Where there is no tokenizer, transformers may make up one that knows its special tokens and no others.
    return found if len(found) > len(found.all_special_ids) else None


def plain(config: PreTrainedConfig) -> dict[str, Any]:
    """`config` as JSON has it, without the place it was loaded from."""
    settings = json.loads(config.to_json_string(use_diff=False))
    settings.pop("_name_or_path", None)
    return settings


def _model_class(config: PreTrainedConfig):
    """The class the config names, its own or transformers', else the one for the first task its type is known for."""
    own = getattr(config, "auto_map", None) or {}
    for task in TASKS:
        if task in own:
            return getattr(transformers, task)
    for name in config.architectures or ():
        found = getattr(transformers, name, None) or _beside(config, name)
        if isinstance(found, type) and issubclass(found, PreTrainedModel):
            return found
    for task in TASKS[:-1]:
        if type(config) in getattr(transformers, task)._model_mapping:
            return getattr(transformers, task)
    return transformers.AutoModel


def _beside(config: PreTrainedConfig, name: str) -> Any:
    """What the modeling file next to the configuration's calls `name`: parts of a model are not always exported."""
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
    mapping = getattr(kind, "_model_mapping", None)
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
    line = (str(error).strip().splitlines() or ["(no message)"])[0]
    if isinstance(error, ImportError):
        return missing_package(source, error)
    if isinstance(error, MemoryError):
        return EnvironmentMissing(f"Memory ran out while loading {source}.", todo="Use a machine with more memory.")
    return ModelError(f"Cannot load {source}: {type(error).__name__}: {line}", todo=_advice(source, error))


def _advice(source: str, error: Exception) -> str:
    text = f"{type(error).__name__} {error}".lower()
    if "couldn't connect" in text or "is not a local folder" in text or "offline" in text:
        return "Give a local folder or a .gguf file, or check the name and the connection."
    if source.endswith(".gguf") or "safetensor" in text or "header" in text:
        return "The file looks damaged or incomplete: compare its size with the original and copy it again."
    if "does not recognize this architecture" in text:
        return f"A newer transformers than {transformers.__version__} may know it: `pip install -U transformers`."
    return "Check that transformers itself loads this model."
