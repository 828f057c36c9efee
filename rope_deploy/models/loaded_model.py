"""What loading gives: a model with what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from rope_deploy.artifact import Finding
from rope_deploy.rope import RopeSpec, text_config

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run and to trace.

    `model` is as transformers or its factory made it: what is replaced in it while it runs or is traced is in
    `rope_deploy.models.patches`. `config` is its configuration as a plain dictionary, `specs` what that configuration
    states of the rotation (by layer type, "" when there is one rule). `native_attention` is False when its attention
    cannot be replaced by ours, so that the graph will show its parts. A "tower" is fed no text. `findings` are what
    loading had to put right or leave out. `untouched` is a copy of the modules with the same weights, in which nothing
    is ever replaced; None for a model that cannot be copied.
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
    findings: tuple[Finding, ...] = ()
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
