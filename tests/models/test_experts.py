"""Dense experts give what transformers' own give, and only while they are asked for."""

import pytest
import torch
import transformers as hf

from rope_deploy.models.experts import dense_experts
from tests.tiny import LLAMA, fresh

SIZES = {**LLAMA, "moe_intermediate_size": 32, "num_experts_per_tok": 2}
FAMILIES = {
    "mixtral": (hf.MixtralForCausalLM, hf.MixtralConfig, {**SIZES, "num_local_experts": 4}),
    "qwen3_moe": (hf.Qwen3MoeForCausalLM, hf.Qwen3MoeConfig, {**SIZES, "num_experts": 4}),
    # biases, transposed weights, gate and up taken in turn
    "gpt_oss": (hf.GptOssForCausalLM, hf.GptOssConfig, {**SIZES, "num_local_experts": 4, "head_dim": 16}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_experts_are_the_same_sum(family):
    model_class, config_class, settings = FAMILIES[family]
    model = fresh(model_class, config_class(**settings))
    ids = torch.arange(24).reshape(2, 12)
    with torch.no_grad():
        own = model(ids).logits
        with dense_experts(model):
            dense = model(ids).logits
        assert torch.equal(model(ids).logits, own), "the model is as it was"
    torch.testing.assert_close(dense, own, atol=2e-5, rtol=0)


def test_the_comparison_sees_a_token_sent_to_another_expert():
    model_class, config_class, settings = FAMILIES["mixtral"]
    model = fresh(model_class, config_class(**settings))
    experts = next(module for module in model.modules() if hasattr(module, "_is_expert_parallel"))
    x, chosen, weights = torch.randn(3, 64), torch.tensor([[0, 1], [1, 2], [2, 3]]), torch.full((3, 2), 0.5)
    with torch.no_grad(), dense_experts(model):
        right, wrong = experts(x, chosen, weights), experts(x, chosen.flip(0), weights)
    assert (right - wrong).abs().max() > 0.01
