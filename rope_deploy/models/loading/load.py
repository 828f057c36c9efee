"""Load a model from a folder, a GGUF file, a hub name or a factory, and refuse what is unsafe or has no rotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from rope_deploy.artifact.subject import is_factory
from rope_deploy.errors import RopeDeployError, UsageError
from rope_deploy.models.example_inputs import reads_text
from rope_deploy.models.loading.factory import cast, from_factory, pretrained_parts
from rope_deploy.models.loading.locate import locate
from rope_deploy.models.loading.pretrained import class_of, config_from, from_pretrained, plain, tokenizer_from
from rope_deploy.models.loading.stated_rotation import specs_to_compare
from rope_deploy.models.patches.attention import use_own_attention
from rope_deploy.models.patches.gguf_reader import taken_apart_once
from rope_deploy.models.patches.griffin import keep_states_in_cache
from rope_deploy.models.patches.stateless_rotary import make_stateless
from rope_deploy.models.reference.untouched import untouched
from rope_deploy.rope import RopeSpec, text_config

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run and to trace.

    `config` is its configuration as a plain dictionary, `specs` what that configuration says of the rotation
    (by layer type, "" when there is one rule). `native_attention` is False when its attention could not be
    replaced by ours, so that the graph will show its parts. A "tower" is fed no text. `notes` says what loading had to
    put right. `untouched` is the model before anything was replaced in it, for text that could be copied.
    """

    model: torch.nn.Module
    config: dict[str, Any]
    specs: dict[str, RopeSpec]
    source: str
    model_type: str
    task: Literal["decoder", "encoder", "tower"]
    dtype: str
    native_attention: bool
    tokenizer: Any = None
    notes: tuple[str, ...] = ()
    untouched: torch.nn.Module | None = field(default=None, repr=False, compare=False)

    @property
    def layers(self) -> int:
        """Number of layers the configuration states, 0 if it does not."""
        stated = text_config(self.config)
        return int(stated.get("num_hidden_layers") or stated.get("n_layer") or 0)

    @property
    def counts_positions(self) -> bool:
        """Whether its graph is to count the positions itself: encoders of transformers do, from 0 in every row."""
        return self.task == "encoder" and isinstance(self.model, PreTrainedModel)

    @property
    def position_axes(self) -> int:
        """Axes of a position: 1, or as many as M-RoPE has sections."""
        return max((len(spec.mrope_section) for spec in self.specs.values()), default=0) or 1

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
    if is_factory(source):
        model, config = from_factory(source)
        return wrap(cast(model, DTYPES[dtype]), config, source=source, dtype=dtype)
    place = locate(source)
    with taken_apart_once():
        model, config, notes = from_pretrained(
            place,
            dtype=DTYPES[dtype],
            trust_remote_code=trust_remote_code,
            overrides=config_overrides or {},
        )
        tokenizer, unread = tokenizer_from(place, trust_remote_code=trust_remote_code)
    made = wrap(model, config, source=source, dtype=dtype, tokenizer=tokenizer)
    return replace(made, notes=notes + unread)


def read_config(source: str, *, trust_remote_code: bool = False) -> dict[str, Any]:
    """The configuration of a folder, GGUF file or hub name as a plain dictionary; no weights are read.

    A factory's model has to be made to be asked. Raises ModelError as `load_model` does.
    """
    if is_factory(source):
        return from_factory(source)[1]
    return plain(_config(source, trust_remote_code))


def is_tower(source: str, *, trust_remote_code: bool = False) -> bool:
    """Whether the model of a folder, GGUF file, hub name or factory is fed no text; no weights are read.

    Raises ModelError as `load_model` does.
    """
    if is_factory(source):
        return not reads_text(from_factory(source)[0])
    return not reads_text(class_of(_config(source, trust_remote_code)))


def _config(source: str, trust_remote_code: bool) -> PreTrainedConfig:
    place = locate(source)
    with taken_apart_once():
        return config_from(place, trust_remote_code=trust_remote_code)


def wrap(
    model: torch.nn.Module, config: dict[str, Any], *, source: str, dtype: str = "float32", tokenizer: Any = None
) -> LoadedModel:
    """Make a `LoadedModel` of a model that is already in memory.

    The model itself is switched to our attention, and so are models of transformers inside a module that wraps them.
    """
    model = model.eval().requires_grad_(False)
    reads = reads_text(model)
    before = untouched(model) if reads else None
    native = [use_own_attention(part) for part in pretrained_parts(model)]
    make_stateless(model)
    keep_states_in_cache(model)
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
        native_attention=all(native),
        tokenizer=tokenizer,
        untouched=before,
    )


def _stated(config: Mapping[str, Any], task: str) -> dict[str, RopeSpec]:
    """What `config` says of the rotation; it need not say anything, as its graph shows whether it turns, and how. Of a
    tower what it says need not be right: its rows and columns have no rule that a configuration could state."""
    if task != "tower":
        return specs_to_compare(config) if config else {}
    try:
        return specs_to_compare(config)
    except RopeDeployError:
        return {}
