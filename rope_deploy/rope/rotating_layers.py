"""Which layers of a model rotate, and by which of its rules: what a configuration says of it, directly or not.

The facts that configurations leave unsaid are those of the modeling code of transformers 5.23; where it is not
certain what a model does, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rope_deploy.rope.bounds import require_layers
from rope_deploy.rope.from_config import text_config
from rope_deploy.rope.read_rule import is_size

_ROTATING = frozenset({"full_attention", "sliding_attention", "chunked_attention", "attention"})
_STILL = frozenset({"linear_attention", "conv", "mamba", "recurrent", "moe"})
# `no_rope_layers` holds 1 for a layer that rotates; every fourth does not unless stated.
_LISTED = frozenset({"smollm3", "llama4_text", "mistral_large4_text"})
# Their full layers see the whole sequence and do not rotate: always, or if there is a sliding window.
_SLIDING = frozenset({"cohere2", "afmoe", "flint"})
_SLIDING_IF_WINDOW = frozenset({"exaone4", "exaone_moe", "kolibri1"})
# Layers of several kinds, told apart by keys that are not read here, or rotations beside those of the layers.
_UNCERTAIN_KEYS = (
    "attn_layer_indices",
    "attn_layer_period",
    "block_types",
    "full_attention_interval",
    "full_attn_idxs",
    "hybrid_override_pattern",
    "index_topk",
    "layers_block_type",
    "num_kv_shared_layers",
)


def rotating_layers(config: Mapping[str, Any]) -> dict[int, str] | None:
    """The layers that rotate their q and k, each with its layer type ("" if the configuration has none).

    None where that does not follow from the configuration (hybrids, encoders with decoders, shared keys).
    """
    config = text_config(config)
    count = config.get("num_hidden_layers") or config.get("n_layer")
    types = config.get("layer_types")
    uncertain = any(config.get(key) for key in _UNCERTAIN_KEYS if not (types and key == "full_attention_interval"))
    if not is_size(count) or uncertain or config.get("is_encoder_decoder"):
        return None
    require_layers(count, "The configuration")
    if types is not None and (not isinstance(types, Sequence) or len(types) != count):
        return None
    names = [str(name) for name in types] if types is not None else _usual_types(config, count)
    if names is None or any(name not in _ROTATING | _STILL | {""} for name in names):
        return None
    rotates = _rotates(config, count, names)
    if rotates is None:
        return None
    return {n: name for n, name in enumerate(names) if rotates[n] and name not in _STILL}


def _rotates(config: Mapping[str, Any], count: int, types: Sequence[str]) -> Sequence[Any] | None:
    """Something true for each layer that rotates."""
    model_type = str(config.get("model_type"))
    listed = config.get("no_rope_layers")
    if model_type in _LISTED and not listed:
        every = config.get("no_rope_layer_interval") or 4
        listed = [(layer + 1) % every != 0 for layer in range(count)]
    if listed:
        return listed if len(listed) == count else None
    thetas = config.get("layer_rope_theta")
    if thetas:
        return thetas if len(thetas) == count else None
    if model_type in _SLIDING or (model_type in _SLIDING_IF_WINDOW and config.get("sliding_window")):
        return [name == "sliding_attention" for name in types] if any(types) else None
    return [True] * count


def _usual_types(config: Mapping[str, Any], count: int) -> list[str] | None:
    """The types of the layers where they are not listed."""
    model_type = str(config.get("model_type"))
    if model_type == "modernbert":
        every = config.get("global_attn_every_n_layers") or 3
        return ["full_attention" if layer % every == 0 else "sliding_attention" for layer in range(count)]
    if model_type in ("gemma3_text", "cohere2"):
        usual = 6 if model_type == "gemma3_text" else 4
        every = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or usual
        return ["full_attention" if (layer + 1) % every == 0 else "sliding_attention" for layer in range(count)]
    if model_type in _SLIDING | _SLIDING_IF_WINDOW:
        return None
    return [""] * count
