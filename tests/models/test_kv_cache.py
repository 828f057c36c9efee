"""Every layer's cache has flat names, and a traced cache says what transformers' own says."""

import pytest
import torch
import transformers as hf

from rope_deploy.models import wrap
from rope_deploy.models.kv_cache import flat, new_cache
from rope_deploy.models.reference.run_reference import call
from tests.tiny import LLAMA, fresh, loaded, plain_config

LFM2 = {**LLAMA, "layer_types": ["conv", "full_attention"]}
# Names and the axes after batch for 5 tokens.
PARTS = {
    "llama": {"0.key": (2, 5, 16), "0.value": (2, 5, 16), "1.key": (2, 5, 16), "1.value": (2, 5, 16)},
    "gemma3": {f"{layer}.{part}": (2, 5, 16) for layer in range(3) for part in ("key", "value")},
    "lfm2": {"0.conv": (64, 3), "1.key": (2, 5, 16), "1.value": (2, 5, 16)},
}


def model_of(family: str):
    if family != "lfm2":
        return loaded(family)
    model = fresh(hf.Lfm2ForCausalLM, hf.Lfm2Config(**LFM2))
    return wrap(model, plain_config(model), source="tiny-lfm2")


def tokens(first: int, count: int, *, total: int | None = None) -> dict[str, torch.Tensor]:
    ids = torch.arange(first, first + count)
    mask = torch.ones(2, total or first + count, dtype=torch.long)
    return {"input_ids": (ids + 5).repeat(2, 1), "attention_mask": mask, "position_ids": ids.repeat(2, 1)}


@pytest.mark.parametrize("family", PARTS)
def test_parts_have_names(family):
    with torch.no_grad():
        kept = call(model_of(family), tokens(0, 5), {})[1]
    assert {name: tuple(tensor.shape[1:]) for name, tensor in kept.items()} == PARTS[family]


@pytest.mark.parametrize("family", PARTS)
@pytest.mark.parametrize("later", [1, 4])
def test_a_cache_comes_back_as_it_was_left(family, later):
    model = model_of(family)
    with torch.no_grad():
        whole, everything = call(model, tokens(0, 5 + later), {})
        _, past = call(model, tokens(0, 5), {})
        before = {name: tensor.clone() for name, tensor in past.items()}
        for traced in (False, True):
            if traced and later == 1:
                continue  # transformers takes another way for one token, which a trace never sees
            rest, kept = call(model, tokens(5, later), past, traced=traced)
            assert kept.keys() == everything.keys()
            assert max((kept[name] - everything[name]).abs().max() for name in kept) < 1e-5
            assert (rest - whole[:, 5:]).abs().max() < 1e-4
        assert all(torch.equal(past[name], before[name]) for name in past), "what was given is as it was"
        nothing = {name: torch.zeros_like(tensor) for name, tensor in past.items()}  # the twin
        wrong, _ = call(model, tokens(5, later), nothing)
        assert (wrong - whole[:, 5:]).abs().max() > 0.01


def test_states_of_zero_are_a_first_prompt():
    model = model_of("lfm2")
    zero = {"0.conv": torch.zeros(2, 64, 3), **{f"1.{part}": torch.zeros(2, 2, 0, 16) for part in ("key", "value")}}
    with torch.no_grad():
        want, got = call(model, tokens(0, 5), {})[0], call(model, tokens(0, 5), zero, traced=True)[0]
        assert (got - want).abs().max() < 1e-5
        other, _ = call(model, tokens(0, 5), {**zero, "0.conv": torch.ones(2, 64, 3)}, traced=True)  # the twin
        assert (other - want).abs().max() > 0.01


def test_a_layer_may_keep_several_states():
    """As many convolutions as the configuration says (Qwen4's three, Inkling's four)."""
    config = hf.Lfm2Config(**LFM2)
    config.number_of_conv_states = 2
    model = torch.nn.Module()
    model.config = config
    given = {"0.conv": torch.ones(1, 4, 3), "0.conv_1": torch.zeros(1, 4, 2), "0.recurrent_1": torch.ones(1, 7)}
    cache = new_cache(model, given, traced=True)
    assert {name: tensor.shape for name, tensor in flat(cache).items()} == {n: t.shape for n, t in given.items()}
    assert torch.equal(
        cache.update_conv_state(torch.full((1, 4, 1), 5.0), 0, state_idx=1)[0, 0], torch.tensor([0, 0, 5.0])
    )
    assert torch.equal(flat(cache)["0.conv_1"][0, 0], torch.tensor([0, 5.0]))
