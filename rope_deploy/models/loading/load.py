"""Load a model from a folder, a GGUF file, a hub name or a factory, and refuse what is unsafe or has no rotation."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from rope_deploy.artifact.subject import Kind, subject_of
from rope_deploy.errors import RopeDeployError, UsageError
from rope_deploy.models.example_inputs import reads_text
from rope_deploy.models.loaded_model import DTYPES, LoadedModel
from rope_deploy.models.loading.factory import cast, from_factory
from rope_deploy.models.loading.locate import locate
from rope_deploy.models.loading.pretrained import class_of, config_from, from_pretrained, plain, tokenizer_from
from rope_deploy.models.loading.stated_rotation import specs_to_compare
from rope_deploy.models.module_tree import pretrained_parts
from rope_deploy.models.patches.attention_and_mask import replaceable
from rope_deploy.models.patches.patched import patched
from rope_deploy.rope import RopeSpec


def load_model(source: str, *, dtype: str = "float32", trust_remote_code: bool = False) -> LoadedModel:
    """Load `source` in `dtype`, in evaluation mode, on the CPU.

    Raises ModelError for anything that is not a loadable, safe model with rotary embeddings, UsageError for an
    unknown dtype or rope type.
    """
    if dtype not in DTYPES:
        raise UsageError(f"Unknown dtype {dtype!r}.", exists=f"Known: {', '.join(DTYPES)}.")
    if subject_of(source).kind is Kind.FACTORY:
        model, config = from_factory(source)
        return wrap(cast(model, DTYPES[dtype]), config, source=source, dtype=dtype)
    location = locate(source)
    with patched(None, "load"):
        model, config, findings = from_pretrained(location, dtype=DTYPES[dtype], trust_remote_code=trust_remote_code)
        tokenizer, without = tokenizer_from(location, trust_remote_code=trust_remote_code)
    made = wrap(model, config, source=source, dtype=dtype, tokenizer=tokenizer)
    return replace(made, findings=findings if made.task == "tower" else (*findings, *without))


def read_config(source: str, *, trust_remote_code: bool = False) -> dict[str, Any]:
    """The configuration of a folder, GGUF file or hub name as a plain dictionary; no weights are read.

    A factory's model has to be made to be asked. Raises ModelError as `load_model` does.
    """
    if subject_of(source).kind is Kind.FACTORY:
        return from_factory(source)[1]
    return plain(_config(source, trust_remote_code))


def is_tower(source: str, *, trust_remote_code: bool = False) -> bool:
    """Whether the model of a folder, GGUF file, hub name or factory is fed no text; no weights are read.

    Raises ModelError as `load_model` does.
    """
    if subject_of(source).kind is Kind.FACTORY:
        return not reads_text(from_factory(source)[0])
    return not reads_text(class_of(_config(source, trust_remote_code)))


def _config(source: str, trust_remote_code: bool) -> PreTrainedConfig:
    location = locate(source)
    with patched(None, "load"):
        return config_from(location, trust_remote_code=trust_remote_code)


def wrap(
    model: torch.nn.Module, config: dict[str, Any], *, source: str, dtype: str = "float32", tokenizer: Any = None
) -> LoadedModel:
    """Make a `LoadedModel` of a model that is already in memory.

    The model is put into evaluation mode and takes no gradients; nothing is replaced in it.
    """
    model = model.eval().requires_grad_(False)
    reads = reads_text(model)
    task = "encoder" if reads else "tower"
    if task == "encoder" and isinstance(model, PreTrainedModel) and model.can_generate():
        task = "decoder"
    return LoadedModel(
        model=model,
        config=config,
        specs=_stated(config, task),
        source=source,
        model_type=config.get("model_type", type(model).__name__),
        task=task,
        dtype=dtype,
        native_attention=all(replaceable(part) for part in pretrained_parts(model)),
        tokenizer=tokenizer,
        untouched=_copied(model),
    )


def _copied(model: torch.nn.Module) -> torch.nn.Module | None:
    """A copy of the modules of `model`, which shares its weights.

    None for one that cannot be copied; a check then skips the cases that need it, and says so.
    """
    try:
        return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})
    except Exception:  # modules of a user's own may hold anything
        return None


def _stated(config: Mapping[str, Any], task: str) -> dict[str, RopeSpec]:
    """What `config` states of the rotation, if anything: a model's graph shows whether it rotates, and how.

    Of a tower it need not be true: the angles of rows and columns follow no rule that a configuration could state. So a
    rule that cannot be read is no fault there, and nothing is lost: the audit says that no rule is known.
    """
    if task != "tower":
        return specs_to_compare(config) if config else {}
    try:
        return specs_to_compare(config)
    except RopeDeployError:
        return {}
