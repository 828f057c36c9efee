"""Tiny random models of real families: what the tests of loading, tracing and exporting run on.

    family            what it is there for
    llama             the llama3 rule; grouped heads
    smollm2           tied embeddings, 9 query heads for 3 key heads
    qwen2             biases in the q, k and v projections
    qwen3             q and k normalised per head, head_dim is not hidden_size / heads
    mistral           a sliding window
    phi3              partial rotation, LongRoPE, one projection for q, k and v
    gemma3            two rules by layer type, a sliding window in one of them
    gpt_neox          a quarter of each head turns
    gptj              interleaved, partial; no attention interface
    cohere2           interleaved, layers without any rotation
    glm               interleaved and partial
    modernbert        an encoder with two rules and a masked language model's head
    modernbert_bare   the same without the head

Their weights are drawn as those of `conformance.families.tiny`: logits have a spread of about one and depend on where
tokens stand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from conformance.families.tiny import draw_weights
from rope_deploy.models import LoadedModel, wrap
from rope_deploy.models.loading.factory import cast

VOCAB, POSITIONS = 96, 128
CHARACTERS = [chr(code) for code in range(ord(" "), ord(" ") + VOCAB - 3)]  # after <pad>, <s>, </s>
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

# Sizes in the words of Llama and its descendants.
LLAMA = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
    **TOKENS,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.4],
    "long_factor": [1.1, 1.5, 2.0, 3.0, 4.0, 6.0],
    "original_max_position_embeddings": 32,
}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
GPT_NEOX = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
GPTJ = {"vocab_size": VOCAB, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS, "rotary_dim": 8}
MODERNBERT = {
    **GPT_NEOX,
    "num_hidden_layers": 3,
    "layer_types": MIXED,
    "local_attention": 16,
    "cls_token_id": 1,
    "sep_token_id": 2,
}

FAMILIES: Mapping[str, tuple[type[hf.PreTrainedModel], type[hf.PreTrainedConfig], dict[str, Any]]] = {
    "llama": (hf.LlamaForCausalLM, hf.LlamaConfig, {**LLAMA, "rope_parameters": LLAMA3}),
    "smollm2": (
        hf.LlamaForCausalLM,
        hf.LlamaConfig,
        {
            **LLAMA,
            "hidden_size": 144,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "tie_word_embeddings": True,
        },
    ),
    "qwen2": (hf.Qwen2ForCausalLM, hf.Qwen2Config, LLAMA),
    "qwen3": (hf.Qwen3ForCausalLM, hf.Qwen3Config, {**LLAMA, "head_dim": 32}),
    "mistral": (hf.MistralForCausalLM, hf.MistralConfig, {**LLAMA, "sliding_window": 8}),
    "phi3": (
        hf.Phi3ForCausalLM,
        hf.Phi3Config,
        {
            **LLAMA,
            "partial_rotary_factor": 0.75,
            "rope_parameters": LONGROPE,
            "original_max_position_embeddings": LONGROPE["original_max_position_embeddings"],
        },
    ),
    "gemma3": (
        hf.Gemma3ForCausalLM,
        hf.Gemma3TextConfig,
        {**LLAMA, "head_dim": 16, "sliding_window": 8, "num_hidden_layers": 3, "layer_types": MIXED},
    ),
    "gpt_neox": (hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig, GPT_NEOX),
    "gptj": (hf.GPTJForCausalLM, hf.GPTJConfig, {**GPTJ, "bos_token_id": 1, "eos_token_id": 2}),
    "cohere2": (
        hf.Cohere2ForCausalLM,
        hf.Cohere2Config,
        {
            **LLAMA,
            "head_dim": 16,
            "sliding_window": 8,
            "num_hidden_layers": 3,
            "layer_types": MIXED,
            "logit_scale": 1.0,
        },
    ),
    "glm": (hf.GlmForCausalLM, hf.GlmConfig, {**LLAMA, "head_dim": 16}),
    "modernbert": (hf.ModernBertForMaskedLM, hf.ModernBertConfig, MODERNBERT),
    "modernbert_bare": (hf.ModernBertModel, hf.ModernBertConfig, MODERNBERT),
}
DECODERS = tuple(name for name in FAMILIES if not name.startswith("modernbert"))


def build(family: str, *, seed: int = 0, **overrides: Any) -> hf.PreTrainedModel:
    """A model of `family` as transformers makes it, with the same weights every time."""
    model_class, config_class, settings = FAMILIES[family]
    return fresh(model_class, config_class(**{**settings, **overrides}), seed=seed)


def fresh(model_class: type[hf.PreTrainedModel], config: hf.PreTrainedConfig, *, seed: int = 0) -> hf.PreTrainedModel:
    """A model with weights that carry a signal through every layer."""
    torch.manual_seed(seed)
    model = model_class(config).eval()
    draw_weights(model)
    return model


def loaded(family: str, *, dtype: str = "float32", **overrides: Any) -> LoadedModel:
    """The same, ready to run and to trace."""
    model = cast(build(family, **overrides), getattr(torch, dtype))
    return wrap(model, plain_config(model), source=f"tiny-{family}", dtype=dtype)


def plain_config(model: hf.PreTrainedModel) -> dict[str, Any]:
    return json.loads(model.config.to_json_string(use_diff=False))


def save(model: hf.PreTrainedModel, folder: Path, *, with_tokenizer: bool = True) -> Path:
    """`model` as a Hugging Face folder with safetensors and, unless declined, a tokenizer."""
    model.save_pretrained(folder)
    if with_tokenizer:
        tokenizer().save_pretrained(folder)
    return folder


def save_family(family: str, folder: Path, *, dtype: str = "float32", **overrides: Any) -> Path:
    return save(cast(build(family, **overrides), getattr(torch, dtype)), folder)


def tokenizer() -> hf.PreTrainedTokenizerFast:
    """One token a character."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", *CHARACTERS])}
    characters = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    characters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    characters.decoder = decoders.Fuse()
    return hf.PreTrainedTokenizerFast(tokenizer_object=characters, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
