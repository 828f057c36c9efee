"""Phi-3.5-MoE's factor on cos and sin follows the length of the call."""

from __future__ import annotations

import torch

from rope_deploy.models import patched


def test_two_factors_are_chosen_by_the_length_without_python():
    """Phi-3.5-MoE's own module branches on it, which no tracer follows."""
    from transformers import PhimoeConfig
    from transformers.models.phimoe.modeling_phimoe import PhimoeRotaryEmbedding

    rule = {"rope_type": "longrope", "rope_theta": 10_000.0, "original_max_position_embeddings": 32}
    rule |= {"short_factor": [1.0 + 0.1 * n for n in range(8)], "long_factor": [2.0 + n for n in range(8)]}
    rule |= {"short_mscale": 1.25, "long_mscale": 1.5}
    config = PhimoeConfig(
        hidden_size=64, num_attention_heads=4, max_position_embeddings=128, rope_parameters=rule,
        original_max_position_embeddings=32,
    )  # fmt: skip
    own, ours = PhimoeRotaryEmbedding(config), PhimoeRotaryEmbedding(config)
    lengths = {}
    for tokens in (5, 32, 33, 40, 5):
        given = torch.zeros(1), torch.arange(tokens)[None]
        with patched(ours, "run") as names:
            mine = ours(*given)
        for one, other in zip(mine, own(*given), strict=True):
            assert torch.equal(one, other), tokens
        lengths[tokens] = float(mine[0][0, 0, 0])
    assert lengths == {5: 1.25, 32: 1.25, 33: 1.5, 40: 1.5}
    assert names == ("two-factor-rotary",)
    with patched(PhimoeRotaryEmbedding(PhimoeConfig(hidden_size=64, num_attention_heads=4)), "run") as names:
        assert names == ()
