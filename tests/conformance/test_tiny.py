"""Tiny configurations keep what makes a family's rotation its own."""

import pytest
import torch

from conformance.families.census import select
from conformance.families.count import count
from conformance.families.exceptions import EXCEPTIONS
from conformance.families.inputs import possible_inputs
from conformance.families.shrink import ORIGINAL, VOCAB, kinds, rules, spread
from conformance.families.tiny import tiny_config, tiny_model


def config(name: str):
    return tiny_config(select([name])[0])


def test_one_layer_of_every_kind_is_kept() -> None:
    assert kinds(["a", "a", "b", "a", "c", "b"]) == [0, 2, 4]
    assert kinds(["a"] * 9) == [0, 1]


def test_sections_keep_their_proportions() -> None:
    assert spread([24, 20, 20], 8) == [3, 3, 2]
    assert spread([16, 24, 24], 8) == [2, 3, 3]
    assert spread([1, 100], 3) == [1, 2]


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("gemma3_text", {"sliding_attention", "full_attention"}),
        ("qwen3_next", {"linear_attention", "full_attention"}),
        ("cohere2", {"sliding_attention", "full_attention"}),
        ("lfm2", {"conv", "full_attention"}),
    ],
)
def test_every_layer_type_has_a_layer(name: str, types: set[str]) -> None:
    small = config(name)
    assert set(small.layer_types) == types
    assert small.num_hidden_layers == len(types)


def test_rotary_settings_are_the_familys_own() -> None:
    assert config("glm").rope_parameters["partial_rotary_factor"] == 0.5
    assert config("gpt_neox").rope_parameters["partial_rotary_factor"] == 0.25
    assert config("apertus").rope_parameters["rope_type"] == "llama3"
    assert config("apertus").rope_parameters["original_max_position_embeddings"] == ORIGINAL
    assert config("gptj").rotary_dim == 8
    small = config("deepseek_v3")
    assert (small.qk_rope_head_dim, small.qk_nope_head_dim, small.head_dim) == (8, 8, 8)
    assert len(rules(config("gemma3_text").rope_parameters)) == 2


def test_a_tiny_model_is_tiny_and_speaks_up() -> None:
    model = tiny_model(select(["mixtral"])[0])
    assert sum(parameter.numel() for parameter in model.parameters()) < 500_000
    ids = torch.randint(5, VOCAB - 20, (2, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(ids).logits
        strided = model(ids, position_ids=3 * torch.arange(7).repeat(2, 1)).logits
    assert 0.3 < logits.std() < 3
    assert (logits - strided).abs().max() > 0.05


def test_the_same_model_every_time() -> None:
    family = select(["llama"])[0]
    first, second, other = tiny_model(family), tiny_model(family), tiny_model(family, seed=1)
    weights = [model.lm_head.weight for model in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_every_exception_is_of_a_configuration_there_is() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert not EXCEPTIONS.keys() - CONFIG_MAPPING_NAMES.keys()
    assert all(exception.reason and exception.settings for exception in EXCEPTIONS.values())


@pytest.mark.filterwarnings("ignore")  # of the families' own code
@pytest.mark.parametrize(
    ("name", "main"),
    [
        ("t5gemma", "decoder_input_ids"),
        ("qwen2_vl", "input_ids"),
        ("qwen2_vl_vision", "hidden_states"),
        ("dinov3_vit", "pixel_values"),
        ("lasr_encoder", "input_features"),
        ("moonshine", "input_values"),
    ],
)
def test_every_kind_of_model_is_fed_what_it_takes(name: str, main: str) -> None:
    family = select([name])[0]
    _, given, paths = count(lambda: tiny_model(family), lambda model: possible_inputs(family, model))
    assert main in given
    assert len(paths) >= 4


def test_sections_that_only_the_code_knows_are_kept() -> None:
    small = config("qwen2_vl").text_config
    assert small.rope_parameters["mrope_section"] == [2, 3, 3]  # of 16, 24, 24


def test_a_configuration_inside_another_gets_its_exceptions() -> None:
    assert config("cohere_compass").text_config.logit_scale == config("cohere_compass_text").logit_scale == 1.0
