"""Griffin's blocks with their states in the cache: what transformers gives, and also where it forgets."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers as hf

from rope_deploy.models import patched
from tests.tiny import LLAMA, fresh

SIZES = {**LLAMA, "lru_width": 64, "block_types": ["recurrent", "attention"], "attention_window_size": 256}
IDS = torch.arange(24).reshape(2, 12) + 3


@pytest.fixture
def pair():
    """The model as transformers has it, and the same with its states in the cache."""
    own = fresh(hf.RecurrentGemmaForCausalLM, hf.RecurrentGemmaConfig(**SIZES))
    ours = copy.deepcopy(own)
    with patched(ours, "run") as names:
        assert names == ("own-attention", "griffin-states")
        yield own, ours


def in_pieces(model: torch.nn.Module, *lengths: int) -> torch.Tensor:
    """Logits of IDS given piece by piece with one cache."""
    model.model._setup_cache(model.config, len(IDS), "cpu", torch.float32)
    cache, logits, start = hf.DynamicCache(config=model.config), [], 0
    for length in lengths:
        positions = torch.arange(start, start + length).expand(len(IDS), -1)
        piece = IDS[:, start : start + length]
        with torch.no_grad():
            logits.append(model(piece, position_ids=positions, past_key_values=cache, use_cache=True).logits)
        start += length
    return torch.cat(logits, dim=1)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() < 1e-5)


def test_it_is_what_transformers_gives(pair):
    own, ours = pair
    steps = (9, 1, 1, 1)
    assert close(in_pieces(ours, *steps), in_pieces(own, *steps))
    with torch.no_grad():
        assert close(ours(IDS, use_cache=False).logits, own(IDS, use_cache=False).logits)


def test_a_prompt_in_pieces_is_the_same_prompt(pair):
    own, ours = pair
    assert close(in_pieces(ours, 5, 4, 3), in_pieces(ours, 12))
    assert not close(in_pieces(own, 5, 4, 3), in_pieces(own, 12)), "then this file is not needed any more"


def test_nothing_is_left_on_the_modules(pair):
    _, ours = pair
    first = in_pieces(ours, 12)
    in_pieces(ours, 3, 1)
    assert torch.equal(in_pieces(ours, 12), first)
    block = ours.model.layers[0].temporal_block
    assert block.rg_lru.recurrent_states is None


def test_other_models_are_left_alone():
    with patched(fresh(hf.LlamaForCausalLM, hf.LlamaConfig(**LLAMA)), "run") as names:
        assert names == ("own-attention",)
