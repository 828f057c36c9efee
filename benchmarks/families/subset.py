"""The families that stand for the others where there is no time for all: every layout, rule and cache once."""

from __future__ import annotations

from collections.abc import Mapping

SUBSET: Mapping[str, str] = {
    "llama": "half a head apart; grouped heads",
    "qwen3": "q and k normalised per head",
    "phi3": "one projection for q, k and v",
    "gpt_neox": "a quarter of each head turns",
    "stablelm": "the same, other weights",
    "gptj": "interleaved, partial; tables made with the model",
    "cohere": "interleaved",
    "glm": "interleaved and partial",
    "roformer": "interleaved; tables made by numpy",
    "deepseek_v2": "complex numbers; a slice of q and a key that all heads share",
    "deepseek_v3": "the same slice, interleaved",
    "deepseek_v32": "an indexer with a cache of its own",
    "apertus": "rule llama3",
    "gpt_oss": "rule yarn; attention sinks",
    "ministral3": "rule yarn; queries scaled by position after they are turned",
    "gemma4_text": "rule proportional in one of two layer types; heads of two sizes",
    "gemma2": "capped scores; a sliding window in one of two layers",
    "gemma3_text": "a rule per layer type",
    "gemma3n_text": "layers that share the keys of others",
    "cohere2": "layers without rotation; sliding windows",
    "nanochat": "q and k normalised after they are turned",
    "mixtral": "a mixture of experts",
    "falcon": "one key for all heads",
    "qwen3_next": "linear attention beside attention",
    "lfm2": "convolutions beside attention",
    "bamba": "Mamba beside attention",
    "modernbert": "an encoder with two rules",
    "esm": "an encoder that counts positions by itself",
    "t5gemma": "encoder and decoder",
    "qwen2_vl": "positions with three axes",
    "qwen2_vl_vision": "a vision tower, positions with two axes",
    "dinov3_vit": "a vision tower, tokens that do not turn",
}
