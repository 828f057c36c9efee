"""Dense experts give what transformers' own give, and only while they are asked for."""

import pytest
import torch
import transformers as hf

from rope_deploy.models.patches.dense_experts import DENSE_EXPERTS
from tests.tiny import LLAMA, fresh

SIZES = {**LLAMA, "moe_intermediate_size": 32, "num_experts_per_tok": 2}
FAMILIES = {
    "mixtral": (hf.MixtralForCausalLM, hf.MixtralConfig, {**SIZES, "num_local_experts": 4}),
    "qwen3_moe": (hf.Qwen3MoeForCausalLM, hf.Qwen3MoeConfig, {**SIZES, "num_experts": 4}),
    # biases, transposed weights, gate and up taken in turn
    # experts below one another in one matrix
    "dbrx": (
        hf.DbrxForCausalLM,
        hf.DbrxConfig,
        {
            "vocab_size": SIZES["vocab_size"],
            "d_model": 64,
            "n_heads": 4,
            "n_layers": 2,
            "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 64},
            "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8},
        },
    ),
    # experts that pass a token on as it is
    "longcat_flash": (
        hf.LongcatFlashForCausalLM,
        hf.LongcatFlashConfig,
        {
            **{name: size for name, size in SIZES.items() if name != "num_hidden_layers"},
            "num_key_value_heads": 4,
            "num_layers": 2,
            "ffn_hidden_size": 64,
            "expert_ffn_hidden_size": 32,
            "moe_topk": 3,
            "n_routed_experts": 4,
            "zero_expert_num": 2,
            "head_dim": 8,
            "q_lora_rank": 24,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8,
            "qk_head_dim": 24,
            "v_head_dim": 16,
        },
    ),
    # a product an expert, its rows told by the gate; queries have experts too
    "jetmoe": (
        hf.JetMoeForCausalLM,
        hf.JetMoeConfig,
        {**SIZES, "num_local_experts": 4, "num_attention_heads": 4, "kv_channels": 16},
    ),
    "gpt_oss": (hf.GptOssForCausalLM, hf.GptOssConfig, {**SIZES, "num_local_experts": 4, "head_dim": 16}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_experts_are_the_same_sum(family):
    model_class, config_class, settings = FAMILIES[family]
    model = fresh(model_class, config_class(**settings))
    ids = torch.arange(24).reshape(2, 12)
    with torch.no_grad():
        own = model(ids).logits
        with DENSE_EXPERTS.apply(model):
            dense = model(ids).logits
        assert torch.equal(model(ids).logits, own), "the model is as it was"
    torch.testing.assert_close(dense, own, atol=2e-5, rtol=0)


@pytest.mark.parametrize("family", ["dbrx", "longcat_flash", "jetmoe"])
def test_every_expert_has_its_own_part_in_the_result(family):
    """The comparison above would see an expert left out."""
    model_class, config_class, settings = FAMILIES[family]
    model = fresh(model_class, config_class(**settings))
    ids = torch.arange(24).reshape(2, 12)
    with torch.no_grad():
        own = model(ids).logits
        for name, weight in model.named_parameters():
            if name.endswith(("mlp.w2", "experts.down_proj", "mlp.output_linear.weight")):
                weight[: len(weight) // 4] = 0
        with DENSE_EXPERTS.apply(model):
            assert (model(ids).logits - own).abs().max() > 0.01


def test_the_comparison_sees_a_token_sent_to_another_expert():
    model_class, config_class, settings = FAMILIES["mixtral"]
    model = fresh(model_class, config_class(**settings))
    experts = next(module for module in model.modules() if hasattr(module, "_is_expert_parallel"))
    x, chosen, weights = torch.randn(3, 64), torch.tensor([[0, 1], [1, 2], [2, 3]]), torch.full((3, 2), 0.5)
    with torch.no_grad(), DENSE_EXPERTS.apply(model):
        right, wrong = experts(x, chosen, weights), experts(x, chosen.flip(0), weights)
    assert (right - wrong).abs().max() > 0.01
