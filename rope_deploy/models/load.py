"""Load a model from a folder, a GGUF file, a hub name or a factory, and refuse what is unsafe or has no rotation."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from rope_deploy.errors import EnvironmentMissing, ModelError, RopeDeployError, UsageError
from rope_deploy.models.attention import use_own_attention
from rope_deploy.models.stateless import make_stateless
from rope_deploy.rope import RopeSpec, specs_from_config, text_config

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
PICKLES = ("pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run and to trace.

    `config` is its configuration as a plain dictionary, `specs` what that configuration says of the rotation
    (by layer type, "" when there is one rule). `native_attention` is False when its attention could not be
    replaced by ours, so that the graph will show its parts.
    """

    model: torch.nn.Module
    config: dict[str, Any]
    specs: dict[str, RopeSpec]
    source: str
    model_type: str
    task: Literal["decoder", "encoder"]
    dtype: str
    native_attention: bool
    tokenizer: Any = None

    @property
    def layers(self) -> int:
        """Number of layers the configuration states, 0 if it does not."""
        stated = text_config(self.config)
        return int(stated.get("num_hidden_layers") or stated.get("n_layer") or 0)

    @property
    def vocab_size(self) -> int | None:
        return text_config(self.config).get("vocab_size")


def load_model(
    source: str,
    *,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    config_overrides: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """Load `source` in `dtype`, in evaluation mode, on the CPU.

    `config_overrides` replaces entries of the configuration before the model is built (the only way to change
    `rope_parameters` that transformers 5 honours; setting them on a loaded model does nothing).

    Raises ModelError for anything that is not a loadable, safe model with rotary embeddings, UsageError for an
    unknown dtype or rope type.
    """
    if dtype not in DTYPES:
        raise UsageError(f"Unknown dtype {dtype!r}.", exists=f"Known: {', '.join(DTYPES)}.")
    if ":" in source and not Path(source).exists():
        model, config = _from_factory(source)
        model = model.to(DTYPES[dtype])
        tokenizer = None
    else:
        where, extra = _locate(source)
        model, config = _from_pretrained(source, where, extra, DTYPES[dtype], trust_remote_code, config_overrides)
        tokenizer = _tokenizer(where, extra)
    return wrap(model, config, source=source, dtype=dtype, tokenizer=tokenizer)


def read_config(source: str, *, trust_remote_code: bool = False) -> dict[str, Any]:
    """The configuration of a folder, GGUF file or hub name as a plain dictionary; no weights are read.

    A factory's model has to be made to be asked. Raises ModelError as `load_model` does.
    """
    if ":" in source and not Path(source).exists():
        return _from_factory(source)[1]
    where, extra = _locate(source)
    try:
        config = AutoConfig.from_pretrained(where, trust_remote_code=trust_remote_code, **extra)
    except Exception as error:
        raise ModelError(_explain(source, error), todo=_advice(source, error)) from error
    _refuse_remote_code(source, config, trust_remote_code)
    return _plain(config)


def wrap(
    model: torch.nn.Module, config: dict[str, Any], *, source: str, dtype: str = "float32", tokenizer: Any = None
) -> LoadedModel:
    """Make a `LoadedModel` of a model that is already in memory. The model itself is switched to our attention."""
    model = model.eval().requires_grad_(False)
    native = use_own_attention(model) if isinstance(model, PreTrainedModel) else True
    make_stateless(model)
    return LoadedModel(
        model=model,
        config=config,
        specs=specs_from_config(config) if config else {},
        source=source,
        model_type=config.get("model_type", type(model).__name__),
        task="decoder" if _is_decoder(model) else "encoder",
        dtype=dtype,
        native_attention=native,
        tokenizer=tokenizer,
    )


def _is_decoder(model: torch.nn.Module) -> bool:
    return isinstance(model, PreTrainedModel) and type(model).__name__.endswith(
        ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
    )


def _locate(source: str) -> tuple[str, dict[str, Any]]:
    """What transformers is to open, and the extra keywords: a GGUF file is a folder plus a file name."""
    path = Path(source)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"There is no file {source}.", todo="Give the path of an existing .gguf file.")
        return str(path.parent), {"gguf_file": path.name}
    if path.is_dir():
        _check_folder(path)
        return source, {}
    if path.exists() or path.is_absolute() or source.count("/") > 1 or source.startswith("."):
        raise ModelError(
            f"{source} is no model folder.",
            exists="It is a file of an unknown kind." if path.exists() else "There is no such folder.",
            todo="Give a Hugging Face folder, a .gguf file, a hub name (owner/name) or package.module:factory.",
        )
    return source, {}


def _check_folder(folder: Path) -> None:
    names = sorted(p.name for p in folder.iterdir())
    if "config.json" not in names:
        raise ModelError(
            f"{folder} is no model folder: it has no config.json.",
            exists=f"It holds: {', '.join(names[:8]) or 'nothing'}.",
            todo="Give the folder that save_pretrained wrote.",
        )
    if not any(name.endswith(".safetensors") for name in names):
        pickles = [name for name in names if name in PICKLES or name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        raise ModelError(
            f"{folder} has no safetensors weights.",
            exists=f"It has {', '.join(pickles)}: pickle files can run code when loaded, so they are refused."
            if pickles
            else f"It holds: {', '.join(names[:8])}.",
            todo="Convert it once with model.save_pretrained(folder) in an environment you trust.",
        )


def _from_pretrained(source, where, extra, dtype, trust_remote_code, overrides):
    try:
        config = AutoConfig.from_pretrained(where, trust_remote_code=trust_remote_code, **extra)
        _refuse_remote_code(source, config, trust_remote_code)
        for key, value in (overrides or {}).items():
            setattr(config, key, value)
        specs_from_config(_plain(config))  # says what is wrong with the rotation before gigabytes are read
        auto = _auto_class(config)
        model = auto.from_pretrained(
            where, config=config, dtype=dtype, use_safetensors=None if extra else True,
            trust_remote_code=trust_remote_code, **extra,
        )  # fmt: skip
    except RopeDeployError:
        raise
    except ImportError as error:
        raise EnvironmentMissing(f"Loading {source} needs a package: {_first_line(error)}") from error
    except Exception as error:
        raise ModelError(_explain(source, error), todo=_advice(source, error)) from error
    # A GGUF model arrives dequantised, but its config still says it is not: transformers would refuse to save it.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    return model, _plain(model.config)


def _refuse_remote_code(source: str, config: PreTrainedConfig, trusted: bool) -> None:
    if getattr(config, "auto_map", None) and not trusted:
        raise ModelError(
            f"{source} brings its own Python code (auto_map in config.json).",
            exists="Running it means trusting its author with this machine.",
            todo="Give --trust-remote-code if you do.",
        )


def _auto_class(config: PreTrainedConfig):
    """The class the config names, else the causal LM, the masked LM or the bare model of its type."""
    for name in config.architectures or ():
        if found := getattr(transformers, name, None):
            return found
    for auto in (transformers.AutoModelForCausalLM, transformers.AutoModelForMaskedLM):
        if type(config) in auto._model_mapping:
            return auto
    return transformers.AutoModel


def _tokenizer(where: str, extra: Mapping[str, Any]) -> Any:
    try:
        return AutoTokenizer.from_pretrained(where, **extra)
    except Exception:  # a model without a tokenizer is still a model; transformers has no one error for it
        return None


def _from_factory(source: str) -> tuple[torch.nn.Module, dict[str, Any]]:
    module_name, _, attribute = source.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"Cannot find the factory {source}: {error}.",
            todo="Write it as package.module:function, importable from where you stand.",
        ) from error
    model = factory()
    if not isinstance(model, torch.nn.Module):
        raise ModelError(f"{source} returned {type(model).__name__}, not a torch.nn.Module.")
    config = getattr(model, "config", None)
    return model, _plain(config) if isinstance(config, PreTrainedConfig) else dict(config or {})


def _plain(config: PreTrainedConfig) -> dict[str, Any]:
    return json.loads(config.to_json_string(use_diff=False))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _explain(source: str, error: Exception) -> str:
    return f"Cannot load {source}: {type(error).__name__}: {_first_line(error)}"


def _advice(source: str, error: Exception) -> str:
    text = f"{type(error).__name__} {error}".lower()
    if source.endswith(".gguf") or "safetensor" in text or "header" in text:
        return "The file looks damaged or incomplete: compare its size with the original and copy it again."
    if "couldn't connect" in text or "is not a local folder" in text or "offline" in text:
        return "Give a local folder or a .gguf file, or check the name and the connection."
    return "Check that transformers itself loads this model."
