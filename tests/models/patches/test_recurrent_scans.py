"""While a model is traced its scans are recurrences; it computes the same, and afterwards it is as it was."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

from rope_deploy.models.patches import recurrences
from rope_deploy.models.patches.recurrent_scans import RECURRENT_SCANS
from tests.tiny import LLAMA, fresh

TWO = ["linear_attention", "full_attention"]
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_n_groups": 2, "mamba_chunk_size": 16}
DELTA = {
    "layer_types": TWO,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "head_dim": 16,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
FAMILIES = {
    "bamba": (hf.BambaForCausalLM, hf.BambaConfig, {**LLAMA, **MAMBA, "attn_layer_indices": [1]}),
    "qwen3_next": (
        hf.Qwen3NextForCausalLM,
        hf.Qwen3NextConfig,
        {**LLAMA, **DELTA, **EXPERTS, "shared_expert_intermediate_size": 32},
    ),
    "minimax": (
        hf.MiniMaxForCausalLM,
        hf.MiniMaxConfig,
        {**LLAMA, "layer_types": TWO, "block_size": 16, "num_local_experts": 4, "head_dim": 16},
    ),
    "recurrent_gemma": (
        hf.RecurrentGemmaForCausalLM,
        hf.RecurrentGemmaConfig,
        {**LLAMA, "lru_width": 64, "block_types": ["recurrent", "attention"], "attention_window_size": 256},
    ),
}


def logits(model: torch.nn.Module, tokens: int) -> torch.Tensor:
    ids = torch.arange(2 * tokens).reshape(2, tokens) % 90
    with torch.no_grad():
        return model(ids, use_cache=False).logits


@pytest.mark.parametrize("tokens", [1, 16, 70])
@pytest.mark.parametrize("family", FAMILIES)
def test_recurrences_take_the_place_of_scans(family, tokens):
    model_class, config_class, settings = FAMILIES[family]
    model = fresh(model_class, config_class(**settings))
    own = logits(model, tokens)
    with RECURRENT_SCANS.apply(model):
        ours = logits(model, tokens)
    torch.testing.assert_close(ours, own, atol=3e-5, rtol=0)
    assert torch.equal(logits(model, tokens), own), "the model is as it was"


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_recurrence_that_is_compared(family, monkeypatch):
    """A state that is never handed on would be seen."""
    monkeypatch.setattr(recurrences, "scan_op", _forgetful)
    model_class, config_class, settings = FAMILIES[family]
    model = fresh(model_class, config_class(**settings))
    own = logits(model, 16)
    with RECURRENT_SCANS.apply(model):
        assert (logits(model, 16) - own).abs().max() > 1e-2


def _forgetful(step, state, rows, _):
    outs = [step(*state, *(row[index] for row in rows)) for index in range(rows[0].shape[0])]
    return [outs[-1][0], torch.stack([out for _, out in outs])]


def test_a_model_without_scans_is_left_alone():
    model = fresh(hf.LlamaForCausalLM, hf.LlamaConfig(**LLAMA))
    own = logits(model, 8)
    with RECURRENT_SCANS.apply(model):
        assert torch.equal(logits(model, 8), own)


def a_rule_of_tomorrow(query, key, value, g, beta, chunk_size=64, initial_state=None):
    """What a family that is not there yet would have in its file."""
    raise AssertionError("this is in the way of a trace")


class Tomorrow(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return a_rule_of_tomorrow(x, x, x, -x[..., 0].abs(), x[..., 0].sigmoid())[0]


def test_a_new_family_is_known_by_what_its_function_takes():
    model, x = Tomorrow(), torch.randn(1, 3, 2, 4)
    with RECURRENT_SCANS.apply(model), torch.no_grad():
        assert model(x).shape == x.shape
    with pytest.raises(AssertionError):
        model(x)
