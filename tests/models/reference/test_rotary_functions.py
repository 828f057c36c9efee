"""What a model's rotation was given is found by rotary_calls, for every family, and never made up."""

import sys

import numpy as np
import pytest
import torch
import transformers as hf

from rope_deploy.models import run_reference, wrap
from rope_deploy.models.reference.rotary_functions import RotaryCalls, rotary_calls
from rope_deploy.rope import rotate, specs_from_config, tables
from tests import tiny

PLAIN = ("llama", "smollm2", "qwen2", "qwen3", "mistral", "glm", "gpt_neox", "gptj")


def seen(family):
    loaded = tiny.loaded(family)
    positions = np.array([[0, 3, 1, 7, 20], [5, 4, 9, 9, 2]])
    feeds = {"input_ids": positions + 3, "attention_mask": np.ones((2, 5), np.int64), "position_ids": positions}
    return loaded, positions, run_reference(loaded, feeds, taps=True)


@pytest.mark.parametrize("family", [name for name in tiny.FAMILIES if name != "cohere2"])
def test_every_rotated_tensor_has_its_unrotated_one(family):
    _, _, out = seen(family)
    rotated = {name for name in out if name.startswith("rotated.")}
    assert rotated and all(f"un{name}" in out and out[f"un{name}"].shape == out[name].shape for name in rotated)


@pytest.mark.parametrize("family", PLAIN)
def test_turned_by_the_rule_it_is_what_entered_the_attention(family):
    loaded, positions, out = seen(family)
    (spec,) = specs_from_config(loaded.config).values()
    cos, sin = (table[positions][:, None] for table in tables(spec, 32))
    for name in [name for name in out if name.startswith("unrotated.")]:
        turned = rotate(out[name].astype(np.float64), cos, sin, interleaved=spec.interleaved)
        np.testing.assert_allclose(turned, out[name.removeprefix("un")], atol=2e-6 * np.abs(turned).max())
        assert not np.allclose(out[name], out[name.removeprefix("un")])


def test_a_layer_without_rotation_has_none():
    _, _, out = seen("cohere2")
    assert {name for name in out if name.startswith("unrotated.")} == {
        f"unrotated.{layer}.{role}" for layer in (0, 2) for role in "qk"
    }


def test_a_tensor_that_no_function_returned_is_not_claimed():
    calls = RotaryCalls()
    given, turned = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 5, 8)
    calls.keep(given, turned)
    calls.keep(given, torch.randn(2, 4, 5, 8))

    def own(query):
        return calls.of_attention(query, torch.randn(2, 4, 5, 8))["q"][0]

    assert torch.equal(own(turned)[0], given)
    for strange in (torch.randn(2, 4, 5, 8), turned[:, :, :4], turned.flip(1)):
        assert own(strange)[0] is None
        assert own(strange)[1] is strange


@pytest.mark.parametrize("end", [slice(0, 4), slice(4, 8)])
def test_a_slice_is_put_back_and_the_rest_of_the_head_kept(end):
    calls, given, turned = RotaryCalls(), torch.randn(2, 4, 5, 4), torch.randn(2, 4, 5, 4)
    whole = torch.randn(2, 4, 5, 8)
    whole[..., end] = turned
    calls.keep(given.transpose(1, 2), turned.transpose(1, 2))  # tokens before heads, as GPT-J does it
    (before, after), *others = calls.of_attention(whole, torch.randn(2, 4, 5, 8))["q"]
    assert after is whole and not others
    assert torch.equal(before[..., end], given)
    rest = slice(4, 8) if end.start == 0 else slice(0, 4)
    assert torch.equal(before[..., rest], whole[..., rest])


def test_the_functions_are_the_models_own_again_afterwards_also_after_an_error():
    model = tiny.build("llama")
    module = sys.modules[type(model).__module__]
    function = module.apply_rotary_pos_emb
    with pytest.raises(ZeroDivisionError), rotary_calls(model):
        assert module.apply_rotary_pos_emb is not function
        raise ZeroDivisionError
    assert module.apply_rotary_pos_emb is function


@pytest.mark.parametrize("family", ["hunyuan", "llama4"])
def test_what_is_normed_or_scaled_after_its_rotation_is_recorded_as_it_was_rotated(family):
    """HunYuan norms q and k after rotating them, Llama 4 too, and scales q by the position."""
    if family == "hunyuan":
        model = tiny.fresh(hf.HunYuanDenseV1ForCausalLM, hf.HunYuanDenseV1Config(**tiny.LLAMA, head_dim=16))
    else:
        sizes = {**tiny.LLAMA, "head_dim": 16, "intermediate_size_mlp": 96, "num_local_experts": 2}
        model = tiny.fresh(hf.Llama4ForCausalLM, hf.Llama4TextConfig(**sizes, attention_chunk_size=64))
    loaded = wrap(model, tiny.plain_config(model), source=family)
    positions = np.array([[0, 3, 1, 7, 20]])
    feeds = {"input_ids": positions + 3, "attention_mask": np.ones((1, 5), np.int64), "position_ids": positions}
    out = run_reference(loaded, feeds, taps=True)
    spec = next(iter(loaded.specs.values()))
    cos, sin = (table[positions][:, None] for table in tables(spec, 32))
    for role in "qk":
        turned = rotate(out[f"unrotated.0.{role}"].astype(np.float64), cos, sin, interleaved=spec.interleaved)
        np.testing.assert_allclose(turned, out[f"rotated.0.{role}"], atol=1e-5)
        other = rotate(out[f"unrotated.0.{role}"].astype(np.float64), cos, -sin, interleaved=spec.interleaved)
        assert np.abs(other - out[f"rotated.0.{role}"]).max() > 0.05, "the comparison sees the direction"
