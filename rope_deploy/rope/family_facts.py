"""What a configuration leaves unsaid: facts that live in the modeling and configuration code of transformers 5.23.

Everything here is checked against the installed transformers by tests/rope/test_family_facts.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Pairs are neighbours (rotate_every_two, strided slices, or complex numbers). The MLA families among them write
# the result half-split: the same rotation up to one permutation of q and k, which scores do not see.
# fmt: off
INTERLEAVED = frozenset({
    "axk2", "bailing_hybrid", "blt", "blt_global_transformer", "blt_local_decoder", "blt_local_encoder",
    "blt_patcher", "codegen", "cohere", "cohere2", "cohere2_moe", "deepseek_v2", "deepseek_v32", "deepseek_v4",
    "dots3_note_text", "efficientloftr", "ernie4_5", "ernie4_5_moe", "ernie4_5_vl_moe_text", "glm", "glm4",
    "glm4v_text", "glm_moe_dsa", "glm_ocr_text", "gptj", "helium", "llama4_text", "longcat_flash",
    "mistral_large4_text", "moonshine", "moonshine_streaming", "roformer",
})
# fmt: on

# These choose by `rope_interleave`, true unless stated.
INTERLEAVED_BY_KEY = frozenset({"axk1", "deepseek_v3", "glm4_moe_lite", "mistral4", "youtu"})

# x·cos + (x2, −x1)·sin: rotates clockwise.
REVERSED = frozenset({"nanochat"})

# rope_theta where it is not stated and not 10 000.
THETA: Mapping[str, float] = {
    model_type: theta
    for theta, model_types in {
        100.0: "eomt_dinov3",
        1_000.0: "nomic_bert",
        1_200.0: "musicflamingo",
        20_000.0: "jina_embeddings_v3 pe_audio_encoder pe_audio_video_encoder pe_video_encoder",
        25_000.0: "fuyu",
        100_000.0: "helium",
        150_000.0: "gpt_oss openai_privacy_filter",
        160_000.0: "gte",
        500_000.0: """
            bitnet blt blt_global_transformer blt_local_decoder blt_local_encoder cohere csm
            csm_depth_decoder_model ernie4_5 ernie4_5_moe ernie4_5_vl_moe_text evolla flex_olmo llama4_text
            mllama_text_model muse_glimmer_assistant olmo3 paddleocr_vl_text qwen3_vl_moe_text qwen3_vl_text
            """,
        1_000_000.0: """
            cwm emu3_text_model lfm2 lfm2_moe minimax mixtral phimoe qwen2_5_omni_talker qwen2_5_omni_text
            qwen2_5_vl_text qwen2_vl_text qwen3_omni_moe_text solar_open
            """,
        2_000_000.0: "smollm3",
        5_000_000.0: "minimax_m2 minimax_m3_vl_text",
        6_000_000.0: "bailing_hybrid",
        10_000_000.0: "longcat_flash",
        11_158_840.0: "hy_v3",
        12_000_000.0: "apertus",
        80_000_000.0: "dots3_note_text",
        100_000_000.0: "cosmos3_edge_text",
    }.items()
    for model_type in model_types.split()
}

# partial_rotary_factor where it is not stated and not 1.
PARTIAL: Mapping[str, float] = {
    model_type: factor
    for factor, model_types in {
        0.25: "gpt_neox qwen3_5_moe_text qwen3_5_text qwen3_next stablelm",
        0.5: """
            bamba dots3_note_audio_encoder glm glm4 glm4_moe glm4v_moe_text glmasr_encoder nemotron
            persimmon phi recurrent_gemma
            """,
        0.8: "moonshine_streaming",
        0.9: "moonshine",
    }.items()
    for model_type in model_types.split()
}

# State a `rotary_dim` that transformers' class turns into a share of the head.
IGNORES_ROTARY_DIM = frozenset({"minimax_m3_vl_text"})

# Have a factor on cos and sin for each side of LongRoPE's switch. Their module asks for frequencies without a length,
# and so has the short set in every call (`PhimoeRotaryEmbedding.forward`).
TWO_MSCALES = frozenset({"phimoe"})

# Model types that begin so read `alpha` beside "dynamic".
ALPHA = "hunyuan"

# Two rotations by layer type. In version 4 their bases had keys of their own: (key of the full one, its default,
# key of the sliding one, its default, whether `rope_scaling` scales the sliding one too).
LAYERED: Mapping[str, tuple[str, float, str, float, bool]] = {
    **dict.fromkeys(
        ("gemma3_text", "gemma3n_text", "t5gemma2_text", "t5gemma2_decoder"),
        ("rope_theta", 1_000_000.0, "rope_local_base_freq", 10_000.0, False),
    ),
    **dict.fromkeys(
        ("modernbert", "modernbert-decoder"), ("global_rope_theta", 160_000.0, "local_rope_theta", 10_000.0, True)
    ),
    # transformers gives a stated base to the full layers and leaves the sliding ones their default
    "olmo3": ("rope_theta", 500_000.0, "", 500_000.0, False),
}

# Pairs go to the axes of a position alternately; elsewhere each axis has a run of pairs.
AXES_IN_TURN = frozenset({
    "cohere_compass_text", "cosmos3_edge_text", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_omni_moe_talker_text",
    "qwen3_omni_moe_text", "qwen3_vl_moe_text", "qwen3_vl_text", "qwen4_exp_text",
})  # fmt: skip

# The first two sections alternate between rows and columns; the third, the last pairs, is the first axis: time.
ROWS_AND_COLUMNS_FIRST = frozenset({"ernie4_5_vl_moe_text"})

# Whose sections cut the head where others' cut its pairs. Of a position whose axes differ, the two elements of a pair
# are rotated by different angles: that is no rotation. They are taken with one position for each token, as text has.
SECTIONS_OF_THE_HEAD = frozenset({"hunyuan_vl_text"})

# Sections of a multi-axis position where they are not stated.
SECTIONS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(
        ("qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text", "qwen2_5_omni_talker", "paddleocr_vl_text"),
        (16, 24, 24),
    ),
    **dict.fromkeys(
        (
            "qwen3_vl_text",
            "qwen3_vl_moe_text",
            "qwen3_omni_moe_text",
            "qwen3_omni_moe_talker_text",
            "cosmos3_edge_text",
            "cohere_compass_text",
        ),
        (24, 20, 20),
    ),
    **dict.fromkeys(("qwen3_5_text", "qwen3_5_moe_text", "qwen4_exp_text"), (11, 11, 10)),
    **dict.fromkeys(("glm4v_text", "glm4v_moe_text", "glm_image_text", "glm_ocr_text"), (8, 12, 12)),
    "ernie4_5_vl_moe_text": (22, 22, 20),
}


def axes_of_pairs(model_type: str, section: Sequence[int]) -> tuple[int, ...]:
    """The axis of each pair where it does not follow from the sections as elsewhere; else ()."""
    if model_type not in ROWS_AND_COLUMNS_FIRST or len(section) != 3:
        return ()
    return tuple(1 + pair % 2 for pair in range(section[0] + section[1])) + (0,) * section[2]


def is_interleaved(config: Mapping[str, Any]) -> bool:
    """Whether this model type pairs neighbours; model types not listed pair halves."""
    model_type = str(config.get("model_type"))
    if model_type in INTERLEAVED_BY_KEY:
        return config.get("rope_interleave", True) is not False
    return model_type in INTERLEAVED
