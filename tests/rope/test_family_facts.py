"""What family_facts.py says of model types, against the code of the installed transformers."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rope_deploy.errors import ModelError, RopeDeployError
from rope_deploy.rope import RopeSpec, cos_sin, specs_from_config
from rope_deploy.rope.family_facts import (
    INTERLEAVED,
    INTERLEAVED_BY_KEY,
    LAYERED,
    PARTIAL,
    REVERSED,
    SECTIONS,
    THETA,
    is_interleaved,
)

IMAGES = {"efficientloftr", "eomt_dinov3", "llama4_vision_model"}

# Their default configuration has an odd head, or no length.
UNUSABLE_DEFAULTS = {
    "glm4_moe", "glm4v_moe_text", "glm4v_text", "glm_image_text", "qwen3_omni_moe_text", "bailing_hybrid",
    "recurrent_gemma",
}  # fmt: skip


@functools.cache
def _config(model_type: str) -> Any:
    try:
        return CONFIG_MAPPING[model_type]()
    except Exception:
        return None  # some have no default configuration


def _model_types() -> list[str]:
    """Model types of transformers whose default configuration states one-dimensional RoPE of its own."""
    found = []
    for model_type in sorted(set(CONFIG_MAPPING) - IMAGES):
        config = _config(model_type)
        stated = getattr(config, "rope_parameters", None)
        if stated and config.default_rope_type == "default" and not config.sub_configs and _modeling(config):
            found.append(model_type)
    return found


def _modeling(config: Any) -> Path | None:
    """The modeling file beside the configuration's; a few model types borrow another's."""
    spec = importlib.util.find_spec(type(config).__module__.replace(".configuration_", ".modeling_"))
    return Path(spec.origin) if spec and spec.origin else None


def _rotary_modules(model_type: str) -> Iterator[torch.nn.Module]:
    """The model type's own rotary embedding, built from its default configuration."""
    config = _config(model_type)
    name = type(config).__module__.replace(".configuration_", ".modeling_")
    classes = [
        (cls, str(getattr(parameter.annotation, "__name__", parameter.annotation)))
        for cls in vars(importlib.import_module(name)).values()
        if inspect.isclass(cls) and cls.__module__ == name and "RotaryEmbedding" in cls.__name__
        if (parameter := inspect.signature(cls.__init__).parameters.get("config"))
    ]
    own = [cls for cls, annotation in classes if annotation == type(config).__name__]
    # A few text towers annotate their class with the whole model's configuration.
    for cls in own or [cls for cls, _ in classes if model_type.endswith("_text") and "Vision" not in cls.__name__]:
        yield cls(config)


def _differences(rotary: torch.nn.Module, specs: dict[str, RopeSpec], ulps: Any, slack: int) -> list[str]:
    found = []
    for name, buffer in rotary.named_buffers():
        if not name.endswith("inv_freq") or "original" in name:
            continue
        layer_type = name.removesuffix("inv_freq").rstrip("_")
        scaling = getattr(rotary, f"{layer_type}_attention_scaling" if layer_type else "attention_scaling", 1.0)
        if layer_type not in specs:
            found.append(f"{layer_type!r} has no spec")
            continue
        spec = specs[layer_type]
        stated, own = spec.inv_freq(), buffer.numpy()
        if spec.mrope_axes:  # its module keeps them axis by axis, and takes each pair's from there
            stated, own = np.sort(stated), np.sort(own)
        if buffer.shape != (spec.rotary_dim // 2,) or ulps(stated, own) > slack:
            found.append(f"{name} differs")
        if scaling != spec.attention_scaling:
            found.append(f"{layer_type!r}: attention scaling {scaling} is not {spec.attention_scaling}")
    section = getattr(rotary, "mrope_section", None)
    if isinstance(section, list | tuple) and any(tuple(section) != spec.mrope_section for spec in specs.values()):
        found.append(f"sections {section}")
    return found


def test_a_familys_spec_with_another_theta_does_not(ulps: Any, slack: int) -> None:
    """The twin: the comparison above sees a fault."""
    config = _config("qwen3").to_dict()
    config["rope_parameters"]["rope_theta"] = 10001.0
    (rotary,) = _rotary_modules("qwen3")
    assert _differences(rotary, specs_from_config(config), ulps, slack) == ["inv_freq differs"]


@pytest.mark.slow
def test_every_familys_spec_equals_its_rotary_module(ulps: Any, slack: int) -> None:
    compared, differing = 0, {}
    for model_type in _model_types():
        try:
            specs = specs_from_config(_config(model_type).to_dict())
        except ModelError:
            continue  # refused with a reason, tested elsewhere
        except RopeDeployError as error:
            if model_type not in UNUSABLE_DEFAULTS:
                differing[model_type] = [str(error)]
            continue
        try:
            modules = list(_rotary_modules(model_type))
        except (AttributeError, KeyError, ImportError):
            continue  # transformers cannot build it from its defaults, or needs another package
        for rotary in modules:
            compared += 1
            if found := _differences(rotary, specs, ulps, slack):
                differing[model_type] = found
    assert not differing
    assert compared > 130


@pytest.mark.parametrize("model_type", sorted(SECTIONS))
def test_each_pair_follows_the_axis_that_the_familys_own_module_has_it_follow(model_type: str) -> None:
    try:
        (spec,) = specs_from_config(_config(model_type).to_dict()).values()
        rotary = next(iter(_rotary_modules(model_type)))
    except (RopeDeployError, AttributeError, KeyError, ImportError, StopIteration) as reason:
        pytest.skip(f"{model_type}: {reason}")
    if sum(spec.mrope_section) != spec.rotary_dim // 2:
        pytest.skip(f"{model_type}: its default sections do not fill its default width")
    positions = np.arange(30).reshape(3, 2, 5) ** 2
    extra = {"layer_type": "full_attention"} if model_type == "cohere_compass_text" else {}
    cos, _ = rotary(torch.zeros(1), torch.from_numpy(positions), **extra)
    due, _ = cos_sin(spec, positions)
    half = cos[..., ::2] if torch.equal(cos[..., ::2], cos[..., 1::2]) else cos[..., : due.shape[-1]]
    np.testing.assert_allclose(half.numpy(), due, atol=1e-4)
    other, _ = cos_sin(
        dataclasses.replace(spec, mrope_interleaved=not spec.mrope_interleaved, mrope_axes=()), positions
    )
    assert np.abs(half.numpy() - other).max() > 0.1, "the comparison sees the order of the axes"


def test_omitted_thetas_and_shares_are_those_of_transformers() -> None:
    wrong = []
    for model_type in _model_types():
        config = _config(model_type)
        if model_type in LAYERED or any(isinstance(value, dict | None) for value in config.rope_parameters.values()):
            continue
        omitted = type(config)(rope_parameters={"rope_type": "default", "mrope_section": [24, 20, 20]})
        theta = omitted.rope_parameters.get("rope_theta")
        if theta is not None and theta != THETA.get(model_type, 10_000.0):
            wrong.append((model_type, "rope_theta", theta))
        partial = omitted.rope_parameters.get("partial_rotary_factor") or 1.0
        if partial != PARTIAL.get(model_type, 1.0) and model_type != "mistral4":  # there it follows from two sizes
            wrong.append((model_type, "partial_rotary_factor", partial))
    assert not wrong


def test_layered_families_have_the_bases_of_transformers() -> None:
    for model_type, (_, full, _, sliding, _) in LAYERED.items():
        config = _config(model_type).rope_parameters
        assert config["full_attention"]["rope_theta"] == full
        assert config["sliding_attention"]["rope_theta"] == sliding


@pytest.mark.slow
def test_the_interleaved_list_is_what_the_modeling_code_does() -> None:
    wrong = []
    for model_type in [*_model_types(), "codegen", "gptj", "roformer"]:
        config = _config(model_type)
        if _pairs_neighbours(_modeling(config)) != is_interleaved(config.to_dict()):
            wrong.append(model_type)
    assert wrong == ["dots3_note_audio_encoder"]  # shares its file with a text model that does
    assert set(CONFIG_MAPPING) >= INTERLEAVED | INTERLEAVED_BY_KEY | REVERSED


def _pairs_neighbours(modeling: Path) -> bool:
    """Whether the file rotates by strided slices, complex numbers or 2 × 2 matrices."""
    rotation = "".join(
        ast.unparse(node)
        for node in ast.walk(ast.parse(modeling.read_text()))
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith(("rotate_", "apply_rotary"))
        and not node.name.endswith("vision")
    )
    return any(sign in rotation for sign in ("::2]", "view_as_complex", "-1, 1, 2)"))


def test_deepseek_v3_interleaves_unless_told_otherwise() -> None:
    config = _config("deepseek_v3").to_dict()
    assert specs_from_config(config)[""].interleaved
    assert not specs_from_config({**config, "rope_interleave": False})[""].interleaved
    assert specs_from_config({**config, "rope_interleave": False}, interleaved=True)[""].interleaved
