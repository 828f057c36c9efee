"""Configurations as transformers 5 and as transformers 4 wrote them, and bad ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig

from rope_deploy.errors import ConfigError, ModelError, RopeDeployError, UsageError
from rope_deploy.rope import (
    RULES,
    Default,
    DynamicNTK,
    Linear,
    Llama3,
    LongRope,
    Proportional,
    RopeSpec,
    Yarn,
    specs_from_config,
    text_config,
)

SIZES = {"hidden_size": 256, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 4096}

# Written as the hubs' files of version 4 are: bases and shares beside, `rope_scaling` for the rest.
VERSION_4: dict[str, dict[str, Any]] = {
    "llama-3.1": {
        **SIZES,
        "model_type": "llama",
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "factor": 8.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
    },
    "llama, null scaling, no theta": {**SIZES, "model_type": "llama", "rope_scaling": None},
    "linear, old spelling": {**SIZES, "model_type": "llama", "rope_scaling": {"type": "linear", "factor": 2.0}},
    "dynamic": {**SIZES, "model_type": "llama", "rope_theta": 1e6, "rope_scaling": {"type": "dynamic", "factor": 3.0}},
    "qwen2 yarn": {
        **SIZES,
        "model_type": "qwen2",
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
    },
    "qwen3 with a head of its own": {**SIZES, "model_type": "qwen3", "head_dim": 128, "rope_theta": 1000000},
    "mixtral, theta left out": {**SIZES, "model_type": "mixtral", "rope_scaling": None},
    "phi": {**SIZES, "model_type": "phi", "partial_rotary_factor": 0.4375, "rope_theta": 10000.0},
    "phi-3 128k": {
        **SIZES,
        "model_type": "phi3",
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "rope_theta": 10000.0,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0 + i / 10 for i in range(32)],
            "long_factor": [1.0 + i for i in range(32)],
        },
    },
    "pythia": {**SIZES, "model_type": "gpt_neox", "rotary_pct": 0.5, "rotary_emb_base": 20000},
    "stablelm": {**SIZES, "model_type": "stablelm", "rope_theta": 10000, "partial_rotary_factor": 0.5},
    "gemma-3": {
        **SIZES,
        "model_type": "gemma3_text",
        "head_dim": 64,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    },
    "gemma-3, bases left out": {**SIZES, "model_type": "gemma3_text", "head_dim": 64, "rope_scaling": None},
    "modernbert": {
        **SIZES,
        "model_type": "modernbert",
        "global_rope_theta": 80000.0,
        "local_rope_theta": 20000.0,
    },
    "olmo3": {
        **SIZES,
        "model_type": "olmo3",
        "rope_theta": 300000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 2},
    },
    "deepseek-v3": {
        **SIZES,
        "model_type": "deepseek_v3",
        "qk_rope_head_dim": 32,
        "qk_nope_head_dim": 64,
        "rope_theta": 10000,
        "rope_scaling": {
            "type": "yarn",
            "factor": 40,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 0.8,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 1024,
        },
    },
    "granite": {**SIZES, "model_type": "granite", "rope_theta": 10000000.0, "rope_scaling": None},
    "gptj": {"model_type": "gptj", "n_embd": 256, "n_head": 4, "n_layer": 2, "n_positions": 512, "rotary_dim": 32},
    "codegen": {"model_type": "codegen", "n_embd": 256, "n_head": 4, "n_positions": 512, "rotary_dim": 16},
}


@pytest.mark.parametrize("name", VERSION_4)
def test_version_4_reads_as_transformers_converts_it(name: str) -> None:
    """Ours of the old file equals ours of what transformers 5 makes of it (whose numbers tests/families/ checks)."""
    old = VERSION_4[name]
    converted = AutoConfig.for_model(**copy.deepcopy(old)).to_dict()
    assert "rope_parameters" in converted or "rotary_dim" in converted
    assert specs_from_config(old) == specs_from_config(converted)


def test_that_comparison_sees_a_planted_fault() -> None:
    old = VERSION_4["gemma-3"]
    converted = AutoConfig.for_model(**copy.deepcopy(old)).to_dict()
    assert specs_from_config({**old, "rope_local_base_freq": 10001.0}) != specs_from_config(converted)


def test_what_the_well_known_files_say() -> None:
    def only(name: str) -> RopeSpec:
        (spec,) = specs_from_config(VERSION_4[name]).values()
        return spec

    assert only("llama-3.1").scaling == Llama3(8.0, 1.0, 4.0, 8192)
    assert only("llama, null scaling, no theta") == RopeSpec(64, 64, False, 10000.0, Default(), 4096)
    assert only("linear, old spelling").scaling == Linear(2.0)
    assert only("dynamic").scaling == DynamicNTK(3.0, 4096)
    assert only("mixtral, theta left out").rope_theta == 1e6
    assert only("phi").rotary_dim == 28
    longrope = only("phi-3 128k").scaling
    assert isinstance(longrope, LongRope)
    assert (longrope.factor, longrope.threshold) == (32.0, 4096)
    pythia = only("pythia")
    assert (pythia.rotary_dim, pythia.rope_theta) == (32, 20000)
    assert only("gptj") == RopeSpec(64, 32, True, 10000.0, Default(), 512)
    deepseek = only("deepseek-v3")
    assert isinstance(deepseek.scaling, Yarn)
    assert (deepseek.head_dim, deepseek.interleaved) == (32, True)

    gemma = specs_from_config(VERSION_4["gemma-3"])
    assert {key: (spec.rope_theta, spec.scaling) for key, spec in gemma.items()} == {
        "full_attention": (1e6, Linear(8.0)),
        "sliding_attention": (1e4, Default()),
    }
    bert = specs_from_config(VERSION_4["modernbert"])
    assert {key: spec.rope_theta for key, spec in bert.items()} == {"full_attention": 8e4, "sliding_attention": 2e4}


def test_the_text_part_of_a_multimodal_configuration_is_taken() -> None:
    text = {**SIZES, "model_type": "qwen2", "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    nested = {"model_type": "omni", "thinker_config": {"text_config": text}, "vision_config": {"rope_theta": 7.0}}
    assert specs_from_config(nested) == specs_from_config(text)
    assert text_config(nested) == text
    assert text_config(text) is text


def test_layer_types_without_rotation_are_left_out() -> None:
    parameters = {"sliding_attention": {"rope_type": "default", "rope_theta": 1e4}, "full_attention": None}
    assert list(specs_from_config({**SIZES, "rope_parameters": parameters})) == ["sliding_attention"]


def test_gemma_4_has_a_wider_head_in_full_attention() -> None:
    config = {
        **SIZES,
        "head_dim": 64,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
        },
    }
    for own in ({"per_layer_config": {"1": {"head_dim": 128}}}, {"global_head_dim": 128}):
        specs = specs_from_config({**config, **own})
        assert specs["full_attention"].rotary_dim == 128
        assert specs["full_attention"].scaling == Proportional(0.25)
        assert specs["sliding_attention"].rotary_dim == 64


def test_truncate_counts_beside_the_layer_types_as_in_transformers() -> None:
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "truncate": False}
    beside = specs_from_config({**SIZES, "rope_parameters": {"full_attention": yarn, "truncate": False}})
    assert beside["full_attention"].scaling == Yarn(2.0, 4096, truncate=False)
    with pytest.raises(ConfigError, match="full_attention: truncate is read beside the layer types"):
        specs_from_config({**SIZES, "rope_parameters": {"full_attention": yarn}})


def test_sections_are_recorded_and_the_old_name_is_no_rule() -> None:
    config = {**SIZES, "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]}}
    spec = specs_from_config(config)[""]
    assert spec.scaling == Default()
    assert spec.mrope_section == (8, 12, 12)


def test_the_layout_is_looked_up_unless_stated() -> None:
    config = {**SIZES, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
    assert not specs_from_config({**config, "model_type": "llama"})[""].interleaved
    assert specs_from_config({**config, "model_type": "cohere"})[""].interleaved
    assert not specs_from_config({**config, "model_type": "cohere"}, interleaved=False)[""].interleaved
    assert specs_from_config(config, interleaved=True)[""].interleaved
    assert specs_from_config({**config, "model_type": "nanochat"})[""].reversed


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "bert", "hidden_size": 64, "num_attention_heads": 4, "position_embedding_type": "absolute"},
        {"model_type": "gpt2", "n_embd": 64, "n_head": 4},
        {**SIZES, "model_type": "falcon", "alibi": True, "rope_parameters": {"rope_type": "default"}},
        {**SIZES, "model_type": "esm", "rope_theta": 1e4, "position_embedding_type": "absolute"},
        {**SIZES, "model_type": "granitemoehybrid", "rope_theta": 1e4, "position_embedding_type": "nope"},
        {**SIZES, "rope_parameters": None},
        {**SIZES, "rope_parameters": {"full_attention": None}},
        {},
    ],
    ids=lambda config: str(config.get("model_type", "unnamed")),
)
def test_a_model_without_rope_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="no rotary position embedding"):
        specs_from_config(config)


def test_bases_that_differ_by_layer_are_a_rule_each() -> None:
    config = {**SIZES, "model_type": "granite_swa", "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
    several = specs_from_config({**config, "layer_rope_theta": [1e6, 0, 2e4, 1e6]})
    assert {name: spec.rope_theta for name, spec in several.items()} == {
        "rope_theta 20000": 2e4,
        "rope_theta 1e+06": 1e6,
    }
    assert specs_from_config({**config, "layer_rope_theta": [1e6, 0]})[""].rope_theta == 1e6


def test_a_model_that_states_no_length_has_a_usual_one_unless_its_rule_needs_it() -> None:
    config = {**SIZES, "model_type": "recurrent_gemma", "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
    del config["max_position_embeddings"]
    assert specs_from_config(config)[""].max_position == 4096
    with pytest.raises(ConfigError, match="max_position_embeddings must be a whole number"):
        specs_from_config({**config, "max_position_embeddings": None})
    with pytest.raises(ConfigError, match="max_position_embeddings must be a whole number"):
        specs_from_config({**config, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}})


def test_sections_of_the_head_leave_one_position_for_each_token() -> None:
    rule = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 8, 8, 8]}
    assert specs_from_config({**SIZES, "model_type": "hunyuan_vl_text", "rope_parameters": rule})[""].axes.max() == 0
    assert specs_from_config({**SIZES, "model_type": "qwen2_vl_text", "rope_parameters": rule})[""].axes.max() == 3


@pytest.mark.parametrize("rope_type", ["sphere", "axial", "su"])
def test_an_unknown_rope_type_is_refused_and_never_unscaled(rope_type: str) -> None:
    with pytest.raises(UsageError) as error:
        specs_from_config({**SIZES, "rope_scaling": {"rope_type": rope_type, "factor": 2.0}})
    assert repr(rope_type) in str(error.value)
    assert "Known are: default, linear" in str(error.value)


def test_every_fault_of_every_layer_type_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        specs_from_config(
            {
                "model_type": "made_up",
                "max_position_embeddings": "long",
                "rope_parameters": {
                    "full_attention": {"rope_type": "llama3", "rope_theta": "big", "factor": [8]},
                    "sliding_attention": {"rope_type": "linear"},
                },
            }
        )
    text = str(error.value)
    for expected in (
        "made_up",
        "full_attention: the head size is missing",
        "full_attention: max_position_embeddings must be a whole number above 0, not 'long'",
        "full_attention: rope_theta must be a finite number above 1, not 'big'",
        "full_attention: factor must be a finite number, not [8]",
        "full_attention: low_freq_factor is missing; llama3 scaling needs it",
        "full_attention: high_freq_factor is missing",
        "sliding_attention: factor is missing",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor must lie above 0"),
        ({"rotary_dim": 35}, "must be even and within the head of 64; it is 35"),
        ({"head_dim": 63}, "must be even and within the head of 63; it is 63"),
        ({"head_dim": 1 << 20}, "head_dim, the head size, must be at most 65536; it is 1048576"),
        ({"rotary_dim": 128}, "within the head of 64; it is 128"),
        ({"rope_theta": 0}, "rope_theta must be a finite number above 1, not 0"),
        ({"rope_parameters": [1]}, "rope_parameters must be a mapping"),
        ({"rope_scaling": "linear"}, "rope_scaling must be a mapping"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}, "rotary_dim": 2}, "rotary dimension above 2"),
    ],
)
def test_values_that_cannot_be_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        specs_from_config({**SIZES, "rope_theta": 1e4, **change})


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5000),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers() | st.floats(), max_size=3),
)
KEYS = st.sampled_from(sorted({key for rule in RULES.values() for key in rule.__dataclass_fields__} | {"rope_theta"}))
TOP = st.sampled_from(
    (
        "hidden_size",
        "num_attention_heads",
        "head_dim",
        "max_position_embeddings",
        "original_max_position_embeddings",
        "rotary_dim",
        "layer_types",
        "model_type",
        "layer_rope_theta",
        "per_layer_config",
        "rope_scaling",
    )
)


@settings(max_examples=500, deadline=None)
@given(
    rope_type=st.sampled_from(["default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional"]),
    parameters=st.dictionaries(KEYS, JUNK | st.dictionaries(KEYS, JUNK, max_size=2)),
    top=st.dictionaries(TOP, JUNK, max_size=2),
    nested=st.booleans(),
)
def test_junk_gives_a_spec_that_works_or_one_of_our_errors(
    rope_type: str, parameters: dict[str, Any], top: dict[str, Any], nested: bool
) -> None:
    stated = {"rope_type": rope_type, **parameters}
    config = {**SIZES, "rope_theta": 1e4, **top, "rope_parameters": {"full_attention": stated} if nested else stated}
    try:
        specs = specs_from_config(config)
    except RopeDeployError as error:
        assert str(error)
    else:
        assert specs
        for spec in specs.values():
            assert RopeSpec.from_dict(spec.to_dict()) == spec
