"""Every name of transformers that is private or undocumented and that rope_deploy uses, in this one module.

Raises EnvironmentMissing at import if one of them is gone. Attributes of single model classes (`_rnn_scan`,
`_apply_gate`) stand in the patch that replaces them, which compares what it needs with what is installed.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel

from rope_deploy.models.private_names import gone

SEEN_IN = "5.23"

try:
    from transformers.cache_utils import (
        DYNAMIC_LAYER_TYPE_MAPPING,
        Cache,
        DynamicLayer,
        DynamicSlidingWindowLayer,
        LinearAttentionAndFullAttentionLayer,
        LinearAttentionCacheLayerMixin,
        LinearAttentionLayer,
        get_layer_types_and_kwargs,
    )
    from transformers.masking_utils import causal_mask_function, sdpa_mask
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

    ATTENTIONS = AttentionInterface._global_mapping
    MASKS = AttentionMaskInterface._global_mapping
    PreTrainedModel._supports_attention_backend  # noqa: B018 - its absence is the error
    PreTrainedConfig._attn_implementation  # noqa: B018
    # The classes write {"__float__": "Infinity"}.
    decode_special_floats = PreTrainedConfig._decode_special_floats
    transformers.AutoModel._model_mapping  # noqa: B018
except (ImportError, AttributeError) as error:
    raise gone("transformers", SEEN_IN, error) from error

__all__ = [
    "ATTENTIONS",
    "ATTENTION_SETTING",
    "CONFIG_MAPPING",
    "DYNAMIC_LAYER_TYPE_MAPPING",
    "MASKS",
    "SEEN_IN",
    "TRANSFORMERS_DYNAMIC_MODULE_NAME",
    "Cache",
    "DynamicLayer",
    "DynamicSlidingWindowLayer",
    "LinearAttentionAndFullAttentionLayer",
    "LinearAttentionCacheLayerMixin",
    "LinearAttentionLayer",
    "causal_mask_function",
    "classes_by_configuration",
    "decode_special_floats",
    "forget_initialisation",
    "get_layer_types_and_kwargs",
    "sdpa_mask",
    "supports_attention_backend",
    "without_hub_errors",
]

# Where a configuration keeps the name of its attention; setting the public name sets those of parts as well.
ATTENTION_SETTING = "_attn_implementation_internal"


def supports_attention_backend(model: PreTrainedModel) -> bool:
    """Whether the attention of `model` is looked up in transformers' attention interface."""
    return bool(model._supports_attention_backend)


def classes_by_configuration(auto_class: Any) -> Any:
    """The mapping of `auto_class` from a configuration's class to the class of a model; None if it has none."""
    return getattr(auto_class, "_model_mapping", None)


def forget_initialisation(module: torch.nn.Module) -> None:
    """Let transformers initialise the parameters and buffers of `module` again."""
    vars(module).pop("_is_hf_initialized", None)


def without_hub_errors() -> dict[str, bool]:
    """Arguments with which `transformers.utils.cached_file` returns None instead of raising."""
    return {f"_raise_exceptions_for_{what}": False for what in ("gated_repo", "missing_entries", "connection_errors")}
