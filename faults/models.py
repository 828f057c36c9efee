"""The models that faults are planted into: tiny ones, one for each rule, layout and kind of attention; and a real one.

Most tiny ones are tests.tiny's with longer contexts: faults of precision show at positions in the thousands. Random
weights do not show all that trained ones do: activations a thousand times as large as others, and errors that grow
from layer to layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rope_deploy.config import load_config, model_source
from rope_deploy.models import LoadedModel, load_model, wrap
from rope_deploy.models.loading.factory import cast
from tests import tiny

LONG = 8192
# Some calls are longer, some are not: of a fused sliding window, products are only seen of calls that fit into it.
WINDOW = 12
LLAMA3 = {**tiny.LLAMA3, "original_max_position_embeddings": 512}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 2048}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}
PROPORTIONAL = {"rope_type": "proportional", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}
WHOLE_LONGROPE = {
    **tiny.LONGROPE,
    "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6],
    "long_factor": [1.1, 1.5, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0],
}


@dataclass(frozen=True)
class Family:
    """One of tests.tiny's families with settings of its own."""

    name: str
    tiny: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def load(self, dtype: str = "float32", seed: int = 0) -> LoadedModel:
        """The same weights for the same seed."""
        model = cast(tiny.build(self.tiny, seed=seed, **self.settings), getattr(torch, dtype))
        return wrap(model, tiny.plain_config(model), source=f"tiny-{self.name}", dtype=dtype)


@dataclass(frozen=True)
class Real:
    """A model with trained weights, as a file in export_configs has it."""

    name: str
    config: Path
    settings: Mapping[str, Any]

    def load(self, dtype: str = "float32", seed: int = 0) -> LoadedModel:
        """There is but one set of weights, whatever the seed."""
        return load_model(model_source(load_config(self.config).model), dtype=dtype)


def _long(rope: Mapping[str, Any] | None = None, positions: int = LONG, **settings: Any) -> dict[str, Any]:
    return {"max_position_embeddings": positions, **({"rope_parameters": dict(rope)} if rope else {}), **settings}


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("plain", "smollm2", _long()),
        Family("llama3", "llama", _long(LLAMA3)),
        Family("linear", "llama", _long(LINEAR)),
        Family("yarn", "llama", _long(YARN, head_dim=32)),
        Family("longrope", "phi3"),
        Family("longrope-whole", "phi3", {"rope_parameters": WHOLE_LONGROPE, "partial_rotary_factor": 1.0}),
        Family("dynamic", "llama", _long(DYNAMIC, 32)),
        Family("proportional", "llama", _long(PROPORTIONAL, head_dim=32)),
        Family("two-rules", "gemma3", _long(positions=2048, sliding_window=WINDOW)),
        Family("interleaved-and-still", "cohere2", _long(positions=2048, sliding_window=WINDOW)),
        Family("interleaved-partial", "gptj", {"n_positions": 2048}),
        Family("interleaved-half", "glm", _long(positions=2048)),
        Family("partial", "gpt_neox", _long(positions=2048)),
        Family("normed", "qwen3", _long(positions=2048)),
        Family("windowed", "mistral", _long(positions=2048, sliding_window=WINDOW)),
        Family("encoder", "modernbert"),
    )
}
REAL: Mapping[str, Real] = {
    "smollm2": Real(
        "smollm2", Path(__file__).parents[1] / "export_configs/smollm2.toml", {"max_position_embeddings": LONG}
    )
}
MODELS: Mapping[str, Family | Real] = {**FAMILIES, **REAL}
