"""What the config.json of published models says of the rotation: (model type's rotary class, settings).

Abridged to what is read here; heads are those of the model, so that rules rotate as many pairs as they do there.
"""

from __future__ import annotations

from typing import Any

SHORT = [1.0 + 0.02 * pair for pair in range(48)]
LONG = [1.0 + 0.9 * pair for pair in range(48)]


def _heads(hidden: int, heads: int, length: int, **own: Any) -> dict[str, Any]:
    sizes = {"hidden_size": hidden, "num_attention_heads": heads, "num_hidden_layers": 6}
    return {**sizes, "max_position_embeddings": length, **own}


def _yarn(factor: float, original: int, **own: Any) -> dict[str, Any]:
    return {"type": "yarn", "factor": factor, "original_max_position_embeddings": original, **own}


LLAMA3 = {"high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192}
MSCALES = {"short_mscale": 1.243163121016122, "long_mscale": 1.25}
DEEPSEEK = {"beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}
MLA = {"qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "kv_lora_rank": 512}
HUNYUAN = {"alpha": 1000.0, "beta_fast": 32, "beta_slow": 1, "factor": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}
LONGROPE = {"long_factor": LONG, "short_factor": SHORT, "type": "longrope"}

# fmt: off
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "LLaMA 7B of 2023": ("LlamaRotaryEmbedding", {"model_type": "llama", **_heads(4096, 32, 2048)}),
    "Llama 2 7B": ("LlamaRotaryEmbedding", {"model_type": "llama", **_heads(4096, 32, 4096, rope_scaling=None)}),
    "Code Llama": ("LlamaRotaryEmbedding", {"model_type": "llama", **_heads(4096, 32, 16384, rope_theta=1000000)}),
    "Llama 3.1 8B": ("LlamaRotaryEmbedding", {
        "model_type": "llama", "rope_theta": 500000.0, **_heads(4096, 32, 131072),
        "rope_scaling": {"factor": 8.0, "rope_type": "llama3", **LLAMA3}}),
    "Llama 4 Scout": ("", {
        "model_type": "llama4_text", "rope_theta": 500000.0, **_heads(5120, 40, 10485760, head_dim=128),
        "rope_scaling": {"factor": 16.0, "rope_type": "llama3", **LLAMA3, "high_freq_factor": 1.0}}),
    "Apertus": ("ApertusRotaryEmbedding", {
        "model_type": "apertus", "rope_theta": 12000000, **_heads(4096, 32, 65536),
        "rope_scaling": {"factor": 8.0, "rope_type": "llama3", "type": "llama3", **LLAMA3}}),
    "Mistral 7B": ("MistralRotaryEmbedding", {"model_type": "mistral", **_heads(4096, 32, 32768, rope_theta=1e4)}),
    "Mixtral 8x7B": ("MixtralRotaryEmbedding", {"model_type": "mixtral", **_heads(4096, 32, 32768, rope_theta=1e6)}),
    "Qwen2.5 7B, extended": ("Qwen2RotaryEmbedding", {
        "model_type": "qwen2", "rope_theta": 1e6, **_heads(3584, 28, 32768), "rope_scaling": _yarn(4.0, 32768)}),
    "Qwen3 8B, extended": ("Qwen3RotaryEmbedding", {
        "model_type": "qwen3", "rope_theta": 1e6, **_heads(4096, 32, 40960, head_dim=128),
        "rope_scaling": {**_yarn(4.0, 32768), "rope_type": "yarn"}}),
    "Qwen2-VL": ("Qwen2VLRotaryEmbedding", {
        "model_type": "qwen2_vl", "rope_theta": 1e6, **_heads(1536, 12, 32768),
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}),
    "Phi-2": ("PhiRotaryEmbedding", {
        "model_type": "phi", "rope_theta": 1e4, "partial_rotary_factor": 0.4, **_heads(2560, 32, 2048)}),
    "Phi-3.5 mini": ("Phi3RotaryEmbedding", {
        "model_type": "phi3", "rope_theta": 1e4, "original_max_position_embeddings": 4096,
        **_heads(3072, 32, 131072, pad_token_id=0), "rope_scaling": LONGROPE}),
    "Phi-3.5 MoE": ("PhimoeRotaryEmbedding", {
        "model_type": "phimoe", "rope_theta": 1e4, "original_max_position_embeddings": 4096,
        **_heads(3072, 32, 131072),
        "rope_scaling": {**LONGROPE, **MSCALES, "original_max_position_embeddings": 4096}}),
    "MiniCPM3": ("MiniCPM3RotaryEmbedding", {
        "model_type": "minicpm3", "qk_rope_head_dim": 32, "qk_nope_head_dim": 64, **_heads(2560, 40, 32768),
        "rope_scaling": {**LONGROPE, "long_factor": LONG[:16], "short_factor": SHORT[:16],
                         "original_max_position_embeddings": 32768}}),
    "Gemma 3 27B": ("Gemma3RotaryEmbedding", {
        "model_type": "gemma3_text", "rope_theta": 1e6, "rope_local_base_freq": 1e4,
        **_heads(5376, 32, 131072, head_dim=128), "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}),
    "OLMo 3": ("Olmo3RotaryEmbedding", {
        "model_type": "olmo3", "rope_theta": 500000, **_heads(4096, 32, 65536),
        "rope_scaling": {**_yarn(8.0, 8192, beta_fast=32, beta_slow=1, attention_factor=1.2079441541679836),
                         "rope_type": "yarn"}}),
    "ModernBERT": ("ModernBertRotaryEmbedding", {
        "model_type": "modernbert", "global_rope_theta": 160000.0, "local_rope_theta": 10000.0,
        **_heads(768, 12, 8192)}),
    "GPT-NeoX 20B": ("GPTNeoXRotaryEmbedding", {
        "model_type": "gpt_neox", "rotary_pct": 0.25, "rotary_emb_base": 10000, **_heads(6144, 64, 2048)}),
    "Pythia 70M": ("GPTNeoXRotaryEmbedding", {"model_type": "gpt_neox", **_heads(512, 8, 2048)}),
    "Falcon 7B": ("FalconRotaryEmbedding", {
        "model_type": "falcon", "alibi": False, "multi_query": True, "hidden_size": 4544, "num_attention_heads": 71,
        "num_hidden_layers": 6}),
    "DeepSeek-V3": ("DeepseekV3RotaryEmbedding", {
        "model_type": "deepseek_v3", "rope_theta": 10000, **MLA, **_heads(7168, 128, 163840),
        "rope_scaling": _yarn(40, 4096, **DEEPSEEK)}),
    "gpt-oss": ("GptOssRotaryEmbedding", {
        "model_type": "gpt_oss", "rope_theta": 150000, **_heads(2880, 64, 131072, head_dim=64),
        "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "rope_type": "yarn",
                         "original_max_position_embeddings": 4096, "truncate": False}}),
    "Ministral 3": ("Ministral3RotaryEmbedding", {
        "model_type": "ministral3", **_heads(4096, 32, 262144, head_dim=128),
        "rope_parameters": {**_yarn(16.0, 16384, **DEEPSEEK), "rope_type": "yarn", "rope_theta": 1e6,
                            "llama_4_scaling_beta": 0.1}}),
    "Hunyuan 7B": ("HunYuanDenseV1RotaryEmbedding", {
        "model_type": "hunyuan_v1_dense", "rope_theta": 10000.0, **_heads(4096, 32, 32768, head_dim=128),
        "rope_scaling": {**HUNYUAN, "type": "dynamic"}}),
    "Hunyuan A13B": ("HunYuanMoEV1RotaryEmbedding", {
        "model_type": "hunyuan_v1_moe", "rope_theta": 10000.0, **_heads(4096, 32, 32768, head_dim=128),
        "rope_scaling": {**HUNYUAN, "type": "dynamic"}}),
    "GLM-4 9B": ("GlmRotaryEmbedding", {
        "model_type": "glm", "rope_theta": 10000.0, "partial_rotary_factor": 0.5,
        **_heads(4096, 32, 131072, head_dim=128)}),
    "StableLM 3B": ("StableLmRotaryEmbedding", {
        "model_type": "stablelm", "rope_theta": 10000, "partial_rotary_factor": 0.25, **_heads(2560, 32, 4096)}),
    "Persimmon 8B": ("PersimmonRotaryEmbedding", {
        "model_type": "persimmon", "rope_theta": 25000.0, **_heads(4096, 64, 16384)}),
    "a share that makes an odd width": ("GlmRotaryEmbedding", {
        "model_type": "glm", "partial_rotary_factor": 0.55, **_heads(1024, 16, 4096, head_dim=64)}),
    "InternLM2, extended": ("LlamaRotaryEmbedding", {
        "model_type": "llama", "rope_theta": 1e6, **_heads(4096, 32, 32768),
        "rope_scaling": {"type": "dynamic", "factor": 2.0}}),
    "SmolLM3": ("SmolLM3RotaryEmbedding", {
        "model_type": "smollm3", "rope_theta": 5e6, **_heads(2048, 16, 65536), "rope_scaling": None}),
}
# fmt: on
