"""RopeSpecs from a Hugging Face config.json, as transformers 5 and as transformers 4 wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rope_deploy.errors import ConfigError, ModelError
from rope_deploy.rope.decode import is_number, read_rule, rule_named
from rope_deploy.rope.families import (
    AXES_IN_TURN,
    INTERLEAVED,
    LAYERED,
    PARTIAL,
    REVERSED,
    SECTIONS,
    SECTIONS_OF_THE_HEAD,
    THETA,
    axes_of_pairs,
    is_interleaved,
)
from rope_deploy.rope.rules import RULES, Scaling
from rope_deploy.rope.spec import RopeSpec, axes_faults, section_faults

_TEXT_PARTS = ("text_config", "thinker_config", "language_config", "llm_config")
_SIGNS = (
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "rotary_emb_base",
    "rotary_pct",
    "rotary_dim",
    "partial_rotary_factor",
    "rope_local_base_freq",
    "global_rope_theta",
    "local_rope_theta",
    "qk_rope_head_dim",
)
_RULE_KEYS = {field for rule in RULES.values() for field in rule.__dataclass_fields__}
_HEAD_DIM = ("head_dim", "attention_head_dim", "qk_rope_head_dim", "kv_channels")
_HEAD_COUNT = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_num_attention_heads")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_THETA = ("rope_theta", "rotary_emb_base")
UNSTATED_MAX_POSITION = 4096
_MAX_POSITION = ("max_position_embeddings", "n_positions", "max_seq_len", "model_max_length")


def specs_from_config(config: Mapping[str, Any], *, interleaved: bool | None = None) -> dict[str, RopeSpec]:
    """One spec per rotation of the model: keyed by layer type, or by "" when there is only one rule.

    config: the JSON of a model, or of a multimodal model, whose text part is then taken. `interleaved` is not in
    most configurations: None looks the model type up (families.py), a bool overrides.

    Values left out are filled in as transformers 5.23 does: from the keys of version 4, then from the defaults of
    the model type. Raises ModelError for a model without RoPE, UsageError for an unknown rope type, ConfigError
    with every fault.
    """
    config = text_config(config)
    if faults := _shape_faults(config):
        raise ConfigError(f"The RoPE settings of this {_name(config)} configuration are wrong:", faults)
    _require_rope(config)
    if interleaved is None:
        interleaved = is_interleaved(config)
    specs: dict[str, RopeSpec] = {}
    for layer_type, parameters in _parameters(config).items():
        where = f"{layer_type}: " if layer_type else ""
        found, wrong = _spec(config, layer_type, parameters, interleaved)
        faults += [where + fault for fault in wrong]
        if found is not None:
            specs[layer_type] = found
    if faults:
        raise ConfigError(f"The RoPE settings of this {_name(config)} configuration are wrong:", faults)
    return specs


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a multimodal configuration that describes the language model; else the whole."""
    for part in _TEXT_PARTS:
        inner = config.get(part)
        if isinstance(inner, Mapping) and inner:
            return text_config(inner)
    return config


def _shape_faults(config: Mapping[str, Any]) -> list[str]:
    """Containers that are not what they must be; their contents are judged later."""
    faults = [
        f"{key} must be a mapping, not {config[key]!r}."
        for key in ("rope_parameters", "rope_scaling", "per_layer_config")
        if not isinstance(config.get(key) or {}, Mapping)
    ]
    faults += [
        f"{key} must be a list, not {config[key]!r}."
        for key in ("layer_types", "layer_rope_theta")
        if not isinstance(config.get(key) or [], list | tuple)
    ]
    if not faults and not all(is_number(theta) for theta in config.get("layer_rope_theta") or ()):
        faults.append(f"layer_rope_theta must be a list of numbers, not {config['layer_rope_theta']!r}.")
    return faults


def _require_rope(config: Mapping[str, Any]) -> None:
    """Raise ModelError where nothing rotates, or where a rotation is of a kind that a RopeSpec cannot state."""
    model_type = str(config.get("model_type"))
    stated = any(config.get(key) is not None for key in _SIGNS) or model_type in INTERLEAVED | LAYERED.keys()
    stated |= "rope_scaling" in config  # null: a configuration of version 4 without scaling
    parameters = config.get("rope_parameters")
    still = isinstance(parameters, Mapping) and parameters and all(value is None for value in parameters.values())
    otherwise = (
        still  # every layer type's entry is null
        or config.get("alibi") is True
        or config.get("position_embedding_type") not in (None, "rope", "rotary")
        or config.get("qk_rope_head_dim") == 0
        or config.get("use_mem_rope") is False
    )
    if not stated or otherwise:
        raise ModelError(
            f"This {_name(config)} model has no rotary position embedding: there is nothing to rotate.",
            exists=f"Its configuration has none of {', '.join(_SIGNS)}, or says that positions are of another kind.",
        )


def _thetas_by_layer(config: Mapping[str, Any]) -> list[float]:
    """The distinct bases of `layer_rope_theta` (Granite), where 0 marks a layer that does not rotate."""
    return sorted({theta for theta in config.get("layer_rope_theta") or () if theta})


def _parameters(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`rope_parameters` as transformers 5 nests it: by layer type, or under "" when flat; or by base, where layers that
    are of one type otherwise have several."""
    stated, scaling = config.get("rope_parameters") or {}, config.get("rope_scaling") or {}
    nested = {key: value for key, value in stated.items() if isinstance(value, Mapping) and key not in _RULE_KEYS}
    if nested:
        # transformers reads `truncate` beside the layer types, not inside them (modeling_rope_utils, YaRN).
        shared = {"truncate": stated.get("truncate", True)}
        return {key: {"rope_theta": _layer_theta(config, key), **value, **shared} for key, value in nested.items()}
    if len(thetas := _thetas_by_layer(config)) > 1:
        return {f"rope_theta {theta:g}": {**(scaling or stated), "rope_theta": theta} for theta in thetas}
    if str(config.get("model_type")) in LAYERED and not stated:
        scales_both = LAYERED[config["model_type"]][-1]
        return {
            layer_type: {"rope_theta": _layer_theta(config, layer_type), **(scaling if scaled else {})}
            for layer_type, scaled in (("full_attention", True), ("sliding_attention", scales_both))
        }
    return {"": dict(scaling or stated)}


def _layer_theta(config: Mapping[str, Any], layer_type: str) -> Any:
    """The base of one layer type where its parameters do not state it."""
    layered = LAYERED.get(str(config.get("model_type")))
    if layered is None:
        return None
    full_key, full, sliding_key, sliding, _ = layered
    key, default = (sliding_key, sliding) if layer_type == "sliding_attention" else (full_key, full)
    return config.get(key) or default


def _spec(
    config: Mapping[str, Any], layer_type: str, parameters: Mapping[str, Any], interleaved: bool
) -> tuple[RopeSpec | None, list[str]]:
    model_type = str(config.get("model_type", ""))
    rule = rule_named(_rope_type(parameters, model_type))
    head_dim, max_position = _head_dim(config, layer_type), _max_position(config, rule)
    theta = _theta(config, parameters, model_type)
    section = parameters.get("mrope_section") or SECTIONS.get(model_type, ())
    if model_type in SECTIONS_OF_THE_HEAD:
        section = ()

    faults = section_faults(section)
    if not _is_size(head_dim):
        faults.append("the head size is missing: head_dim, or hidden_size and num_attention_heads.")
    if not _is_size(max_position):
        faults.append(f"max_position_embeddings must be a whole number above 0, not {max_position!r}.")
    if not (is_number(theta) and theta > 1):
        faults.append(f"rope_theta must be a finite number above 1, not {theta!r}.")
    if not (is_number(partial := _partial(config, parameters, model_type)) and 0 < partial <= 1):
        faults.append(f"partial_rotary_factor must lie above 0 and not above 1, not {partial!r}.")
    if faults:  # the rule's own faults too, as far as they can be told
        rotary_dim = 0
    else:
        rotary_dim = head_dim if rule.rope_type == "proportional" else _rotary_dim(config, head_dim, partial)
        if rotary_dim % 2 or not 0 < rotary_dim <= head_dim:
            faults.append(f"the rotary dimension must be even and within the head of {head_dim}; it is {rotary_dim}.")

    axes = axes_of_pairs(model_type, section) if not faults else ()
    faults += axes_faults(axes, section, rotary_dim)
    known = dict(parameters)
    if rule.rope_type == "proportional":
        known["partial_rotary_factor"] = partial
    if not layer_type and _is_size(config.get("original_max_position_embeddings")):
        known["original_max_position_embeddings"] = config["original_max_position_embeddings"]  # Phi-3 states it there
    scaling, wrong = read_rule(rule, rule.complete(known, max_position if _is_size(max_position) else 1), rotary_dim)
    faults += wrong
    if faults or scaling is None:
        return None, faults
    return (
        RopeSpec(
            head_dim=head_dim,
            rotary_dim=rotary_dim,
            interleaved=interleaved,
            rope_theta=theta,
            scaling=scaling,
            max_position=max_position,
            reversed=model_type in REVERSED,
            mrope_section=tuple(section),
            mrope_interleaved=bool(section) and model_type in AXES_IN_TURN,
            mrope_axes=axes,
        ),
        [],
    )


def _rope_type(parameters: Mapping[str, Any], model_type: str) -> Any:
    """The rule's name; older spellings are translated as the configuration classes do."""
    name = parameters.get("rope_type") or parameters.get("type") or "default"
    if name == "mrope":  # Qwen2-VL of version 4: sections are a kind of position, not of scaling
        return "default"
    if model_type in ("phi3", "phi4_multimodal") and name in ("su", "yarn"):
        return "longrope"
    return name


def _head_dim(config: Mapping[str, Any], layer_type: str) -> Any:
    if own := _head_dim_of_layers(config, layer_type):
        return own
    if stated := _first(config, _HEAD_DIM):
        return stated
    hidden, heads = _first(config, _HIDDEN), _first(config, _HEAD_COUNT)
    return hidden // heads if _is_size(hidden) and _is_size(heads) else None


def _head_dim_of_layers(config: Mapping[str, Any], layer_type: str) -> Any:
    """Gemma 4 gives the layers of one type a wider head: `global_head_dim`, or `per_layer_config` by layer number."""
    if layer_type == "full_attention" and config.get("global_head_dim"):
        return config["global_head_dim"]
    layer_types = config.get("layer_types") or ()
    for number, own in (config.get("per_layer_config") or {}).items():
        here = layer_types[int(number) : int(number) + 1] if str(number).isdecimal() else ()
        if layer_type in here and isinstance(own, Mapping) and own.get("head_dim"):
            return own["head_dim"]
    return None


def _max_position(config: Mapping[str, Any], rule: type[Scaling]) -> Any:
    """The stated one; for a model that has none at all (RecurrentGemma) as many as is usual, if its rule needs none."""
    if rule.rope_type == "default" and not any(key in config for key in _MAX_POSITION):
        return UNSTATED_MAX_POSITION
    return _first(config, _MAX_POSITION)


def _theta(config: Mapping[str, Any], parameters: Mapping[str, Any], model_type: str) -> Any:
    thetas = _thetas_by_layer(config)
    only = thetas[0] if len(thetas) == 1 else None
    for stated in (only, _first(parameters, ["rope_theta"]), _first(config, _THETA)):
        if stated is not None:
            return stated
    return THETA.get(model_type, 10_000.0)


def _partial(config: Mapping[str, Any], parameters: Mapping[str, Any], model_type: str) -> Any:
    stated = _first(parameters, ["partial_rotary_factor"])
    stated = _first(config, ["partial_rotary_factor", "rotary_pct"]) if stated is None else stated
    return PARTIAL.get(model_type, 1.0) if stated is None else stated


def _rotary_dim(config: Mapping[str, Any], head_dim: int, partial: float) -> Any:
    """`rotary_dim` (GPT-J, CodeGen) counts elements; the other spellings are shares of the head."""
    stated = config.get("rotary_dim")
    ignored = config.get("model_type") == "minimax_m3_vl_text"  # states it and rotates all the same
    return stated if _is_size(stated) and not ignored else int(head_dim * partial)


def _first(values: Mapping[str, Any], names: Any) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _name(config: Mapping[str, Any]) -> str:
    return str(config.get("model_type") or "unnamed")
