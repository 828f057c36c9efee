"""Tiny random towers: what the tests of models that read no text run on.

qwen2_5_vl    rows and columns of a grid that is an argument; heads [S, N, H] without a batch; windows
dinov3        rows and columns computed while it runs, some tokens not turned; any batch
lasr          an audio encoder with a rule of one axis; any batch
llama4        complex numbers, kept in a buffer
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import transformers as hf

from rope_deploy.export import Prepared, prepare
from rope_deploy.models import LoadedModel, wrap
from tests import tiny

SMALL = {"hidden_size": 64, "intermediate_size": 96, "patch_size": 8}
TOWERS: Mapping[str, tuple[str, str, str, dict[str, Any]]] = {
    "qwen2_5_vl": (
        "qwen2_5_vl",
        "Qwen2_5_VisionTransformerPretrainedModel",
        "Qwen2_5_VLVisionConfig",
        {**SMALL, "depth": 2, "num_heads": 4, "out_hidden_size": 32, "window_size": 32, "fullatt_block_indexes": [1]},
    ),
    "dinov3": (
        "dinov3_vit",
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {**SMALL, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "num_register_tokens": 1},
    ),
    "lasr": (
        "lasr",
        "LasrEncoder",
        "LasrEncoderConfig",
        {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "num_mel_bins": 32,
            "conv_kernel_size": 5,
            "subsampling_conv_channels": 64,
        },
    ),
    "llama4": (
        "llama4",
        "Llama4VisionModel",
        "Llama4VisionConfig",
        {
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
            "projector_input_dim": 64,
            "projector_output_dim": 64,
            "vision_output_dim": 64,
        },
    ),
}


def build(name: str) -> hf.PreTrainedModel:
    """The tower `name` with the same weights every time."""
    package, model, config, settings = TOWERS[name]
    modeling = importlib.import_module(f"transformers.models.{package}.modeling_{package}")
    configuration = importlib.import_module(f"transformers.models.{package}.configuration_{package}")
    made = tiny.fresh(getattr(modeling, model), getattr(configuration, config)(**settings))
    made.config.architectures = [model]
    return made


def loaded(name: str) -> LoadedModel:
    model = build(name)
    return wrap(model, tiny.plain_config(model), source=f"tiny-{name}")


@cache
def prepared(name: str) -> Prepared:
    return prepare(loaded(name))


def save(name: str, folder: Path) -> Path:
    build(name).save_pretrained(folder)
    return folder
