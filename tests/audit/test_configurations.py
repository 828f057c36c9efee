"""Files held against raw configurations: the right file passes, the one that the unread key would make right fails."""

from __future__ import annotations

import copy
import importlib
import json
import time
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from rope_deploy import api
from rope_deploy.cli.main import main
from rope_deploy.rope import Default, RopeSpec, tables
from tests.audit.files import HEAD, HEADS, POSITIONS, WIDTH, Decoder, write

SIZES = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "num_hidden_layers": 2}
LENGTH = {"max_position_embeddings": POSITIONS}
PLAIN = RopeSpec(HEAD, HEAD, False, 10_000.0, Default(), POSITIONS)
HUNYUAN = {"type": "dynamic", "factor": 1.0, "alpha": 1000.0, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0}

# What is beside the configuration's sizes, and the class that turns by it.
RAW: dict[str, tuple[dict[str, Any], str]] = {
    "alpha": (
        {"model_type": "hunyuan_v1_dense", "head_dim": HEAD, **LENGTH, "rope_scaling": HUNYUAN},
        "HunYuanDenseV1RotaryEmbedding",
    ),
    "no rope key": ({"model_type": "llama", **LENGTH}, "LlamaRotaryEmbedding"),
    "falcon": ({"model_type": "falcon", "alibi": False, **LENGTH}, "FalconRotaryEmbedding"),
    "a base that only the class knows": ({"model_type": "mixtral", **LENGTH}, "MixtralRotaryEmbedding"),
    "an odd share": ({"model_type": "stablelm", "partial_rotary_factor": 0.7, **LENGTH}, "StableLmRotaryEmbedding"),
}
# Those of which a plain table of base 10 000 is wrong.
OTHERWISE = {"alpha", "a base that only the class knows", "an odd share"}


def own_tables(raw: dict[str, Any], cls: str) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin [P, R/2] of the model type's own module."""
    config = AutoConfig.for_model(**copy.deepcopy(raw))
    modeling = importlib.import_module(type(config).__module__.replace("configuration_", "modeling_"))
    cos, sin = getattr(modeling, cls)(config)(torch.zeros(1), torch.arange(POSITIONS)[None])
    width = cos.shape[-1] // 2
    return cos[0, :, :width].numpy(), sin[0, :, :width].numpy()


@pytest.mark.parametrize("name", RAW)
def test_a_file_of_the_model_passes_and_one_of_another_rule_fails(name: str, tmp_path) -> None:
    settings, cls = RAW[name]
    raw = {**SIZES, **settings}
    (tmp_path / "raw.json").write_text(json.dumps(raw))
    found = own_tables(raw, cls)
    width = 2 * found[0].shape[1]
    right = write(tmp_path / "right.onnx", Decoder(tables=found, rotary_dim=width))
    assert api.audit(right, against=tmp_path / "raw.json").verdict == "passed"
    other = RopeSpec(HEAD, width, False, 10_000.0 if name in OTHERWISE else 20_000.0, Default(), POSITIONS)
    wrong = write(tmp_path / "wrong.onnx", Decoder(tables=tables(other, POSITIONS), rotary_dim=width))
    assert api.audit(wrong, against=tmp_path / "raw.json").verdict == "failed"


def test_scaling_beside_nested_rules_is_that_of_the_full_layers(tmp_path) -> None:
    nested = {
        kind: {"rope_type": "default", "rope_theta": theta}
        for kind, theta in (("full_attention", 1e6), ("sliding_attention", 1e4))
    }
    raw = {
        **SIZES, **LENGTH, "model_type": "gemma3_text", "head_dim": HEAD, "layer_types": ["full_attention"] * 2,
        "rope_parameters": nested, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }  # fmt: skip
    (tmp_path / "raw.json").write_text(json.dumps(raw))
    base = 1e6 ** (np.arange(0, HEAD, 2) / HEAD)
    for name, factor, verdict in (("right", 8, "passed"), ("wrong", 1, "failed")):
        angles = np.arange(POSITIONS)[:, None] / base / factor
        stored = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        file = write(tmp_path / f"{name}.onnx", Decoder(tables=stored))
        assert api.audit(file, against=tmp_path / "raw.json").verdict == verdict


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 2**31 - 1},
        {"head_dim": 2**31},
        {"rope_theta": 10**400},
        {"rope_scaling": {"type": "linear", "factor": 2.0, "warp": 3}},
        {"model_type": "toy", "rope_ratio": 50},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_cannot_be_read_ends_with_2_in_seconds(change: dict[str, Any], tmp_path, capsys) -> None:
    file = write(tmp_path / "model.onnx", Decoder(tables=tables(PLAIN, POSITIONS)))
    (tmp_path / "raw.json").write_text(json.dumps({**SIZES, **LENGTH, "model_type": "llama", **change}))
    began = time.perf_counter()
    assert main(["check", "--audit", str(file), "--against", str(tmp_path / "raw.json")]) == 2
    assert time.perf_counter() - began < 30
    message = capsys.readouterr().err
    named = change.get("rope_scaling", change)
    assert list(named)[-1] in message and "Traceback" not in message
