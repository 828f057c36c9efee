"""Which layers rotate: what configurations say, checked where transformers itself says it."""

from __future__ import annotations

import pytest
import transformers as hf

from rope_deploy.rope.rotating_layers import rotating_layers

SMALL = {"num_hidden_layers": 8, "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}


def rotating(config: hf.PreTrainedConfig) -> list[int] | None:
    found = rotating_layers(config.to_dict())
    return None if found is None else sorted(found)


@pytest.mark.parametrize("config_class", [hf.LlamaConfig, hf.Qwen3Config, hf.MistralConfig, hf.GemmaConfig])
def test_every_layer_rotates_unless_something_says_otherwise(config_class):
    assert rotating(config_class(**SMALL)) == list(range(8))


def test_smollm3_lists_the_layers_that_do_rotate_under_no_rope_layers():
    config = hf.SmolLM3Config(**SMALL)
    assert rotating(config) == [layer for layer, rotates in enumerate(config.no_rope_layers) if rotates]
    assert rotating(config) == [0, 1, 2, 4, 5, 6]
    unlisted = {**config.to_dict(), "no_rope_layers": None}
    assert sorted(rotating_layers(unlisted)) == [0, 1, 2, 4, 5, 6]


def test_cohere2_rotates_its_sliding_layers_alone():
    config = hf.Cohere2Config(**SMALL)
    sliding = [layer for layer, name in enumerate(config.layer_types) if name == "sliding_attention"]
    assert rotating(config) == sliding and len(sliding) == 6


def test_exaone4_rotates_full_layers_only_without_a_window():
    window = hf.Exaone4Config(**SMALL, sliding_window=16)
    sliding = [layer for layer, name in enumerate(window.layer_types) if name == "sliding_attention"]
    assert 0 < len(sliding) < 8 and rotating(window) == sliding
    plain = {**window.to_dict(), "sliding_window": None}
    assert sorted(rotating_layers(plain)) == list(range(8))


def test_linear_attention_does_not_rotate():
    config = hf.Qwen3NextConfig(**SMALL)
    full = [layer for layer, name in enumerate(config.layer_types) if name == "full_attention"]
    assert 0 < len(full) < 8 and rotating(config) == full


def test_layers_carry_the_name_of_their_type():
    config = hf.Gemma3TextConfig(**SMALL)
    assert rotating_layers(config.to_dict()) == dict(enumerate(config.layer_types))


@pytest.mark.parametrize("without", ["layer_types"])
def test_usual_types_are_those_of_transformers(without):
    for config in (hf.Gemma3TextConfig(**SMALL), hf.ModernBertConfig(num_hidden_layers=8)):
        stated = config.to_dict()
        expected = rotating_layers(stated)
        assert rotating_layers({key: value for key, value in stated.items() if key != without}) == expected


@pytest.mark.parametrize(
    "stated",
    [
        {"model_type": "t5gemma2", "num_hidden_layers": 4, "is_encoder_decoder": True},
        {"model_type": "jamba", "num_hidden_layers": 4, "attn_layer_period": 2},
        {"model_type": "llama"},
        {"model_type": "llama", "num_hidden_layers": 4, "layer_types": ["full_attention"]},
        {"model_type": "other", "num_hidden_layers": 1, "layer_types": ["hybrid"]},
    ],
)
def test_where_it_does_not_follow_nothing_is_claimed(stated):
    assert rotating_layers(stated) is None
