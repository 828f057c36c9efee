"""What the rules of `shrink` get wrong for a family, and why. Everything not here is handled by rules alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Exceptional:
    """`settings` replace what the rules say; `reason` why they must."""

    reason: str
    settings: Mapping[str, Any] = field(default_factory=dict)


FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
ALL_ALIKE = "by default all its layers are of one kind, and not the kind that rotates"
UNROUTED = "its default configuration leaves the number of experts open"
QUIET = "its default scale for the logits is made for a hidden size of thousands"
WINDOWED = {"num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16}
SHARED = [SLIDING, FULL, SLIDING, FULL]

IMAGES = {"vision_start_token_id": 90, "vision_end_token_id": 91}

EXCEPTIONS: Mapping[str, Exceptional] = {
    "bamba": Exceptional(ALL_ALIKE, {"attn_layer_indices": [1]}),
    "granitemoehybrid": Exceptional(
        ALL_ALIKE, {"num_hidden_layers": 2, "layer_types": [LINEAR, FULL], "position_embedding_type": "rope"}
    ),
    "recurrent_gemma": Exceptional(ALL_ALIKE, {"block_types": ["recurrent", "attention"]}),
    "jamba": Exceptional("the place of attention in its period must stay inside it", {"attn_layer_offset": 1}),
    "lfm2_moe": Exceptional(
        "its default configuration leaves the kinds of layers open",
        {"num_hidden_layers": 2, "layer_types": ["conv", FULL]},
    ),
    "lfm2": Exceptional(ALL_ALIKE, {"num_hidden_layers": 2, "layer_types": ["conv", FULL]}),
    "zamba2": Exceptional("its default configuration does not rotate", {"use_mem_rope": True}),
    "cohere": Exceptional(QUIET, {"logit_scale": 1.0}),
    "cohere2": Exceptional(QUIET, {"logit_scale": 1.0}),
    "cohere2_moe": Exceptional(QUIET, {"logit_scale": 1.0}),
    "cohere_compass_text": Exceptional(
        "its default configuration has no rule for its layers",
        {
            "num_hidden_layers": 2,
            "layer_types": [SLIDING, FULL],
            "logit_scale": 1.0,
            "rope_parameters": {
                SLIDING: {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [3, 3, 2]},
                FULL: None,
            },
        },
    ),
    "chameleon": Exceptional(
        "it looks for its image tokens in a vocabulary map", {"vocabulary_map": {"<image>": 90, "IMGIMGA": 91}}
    ),
    "emu3": Exceptional("it looks for its image tokens in a vocabulary map", {"vocabulary_map": {"<image>": 90}}),
    "qwen2_5_omni_thinker": Exceptional("it reads tokens that its default configuration lacks", IMAGES),
    "qwen3_omni_moe_thinker": Exceptional("it reads tokens that its default configuration lacks", IMAGES),
    "wav2vec2-conformer": Exceptional("its default positions are relative", {"position_embeddings_type": "rotary"}),
    "llama4_vision_model": Exceptional(
        "its feed-forward takes four patches at once", {"intermediate_size": 256, "projector_input_dim": 64}
    ),
    "hunyuan_vl_text": Exceptional(
        "its default configuration does not say how it splits positions",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2, 2]}},
    ),
    "minicpm3": Exceptional(
        "it scales embeddings for a hidden size of thousands", {"scale_emb": 1, "dim_model_base": 64}
    ),
    "mimo_v2_flash": Exceptional("a third of its head turns, which must be even", {"head_dim": 24, "swa_head_dim": 24}),
    "dbrx": Exceptional(
        "its attention reads a base and a bound that its default configuration lacks",
        {"attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0}},
    ),
    "blt": Exceptional("its cache asks for a number of layers that its configuration lacks", {"num_hidden_layers": 2}),
    "roformer": Exceptional("it only decodes where it is told to", {"is_decoder": True}),
    "doge": Exceptional("beyond this many tokens it takes another path in Python", {"keep_window_size": 2048}),
    "deepseek_v2": Exceptional(UNROUTED, {"num_experts_per_tok": 2}),
    "dots1": Exceptional(UNROUTED, {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2}),
    "dots3_note_text": Exceptional(
        "the sizes of its windowed layers are arguments of their own",
        {
            **{f"swa_{name}": value for name, value in WINDOWED.items()},
            "swa_head_dim": 16,
            "swa_qk_nope_head_dim": 8,
            "swa_v_head_dim": 16,
        },
    ),
    "esm": Exceptional(
        "its default has no vocabulary, and positions that are added",
        {"vocab_size": 96, "pad_token_id": 0, "mask_token_id": 3, "position_embedding_type": "rotary"},
    ),
    "gemma3n_text": Exceptional(
        "every kind of layer must come before those that share its cache",
        {"num_hidden_layers": 4, "layer_types": SHARED, "num_kv_shared_layers": 2},
    ),
    "gemma4_text": Exceptional("the heads of its full layers are an argument of their own", {"global_head_dim": 32}),
    "gemma4_unified_text": Exceptional(
        "the heads of its full layers are an argument of their own", {"global_head_dim": 32}
    ),
    "qwen4_exp_text": Exceptional(
        "its default configuration leaves the indexer open",
        {
            "indexer_n_heads": 2,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 16,
            "indexer_budget": 16,
            "indexer_compress_ratio": 4,
            "hc_lowrank": 16,
        },
    ),
}


def settings_of(name: str) -> Mapping[str, Any]:
    return EXCEPTIONS[name].settings if name in EXCEPTIONS else {}
