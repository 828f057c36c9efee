"""RopeSpecs from a Hugging Face config.json, as transformers 5 and as transformers 4 wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rope_deploy.errors import ConfigError, ModelError
from rope_deploy.rope.family_facts import (
    ALPHA,
    AXES_IN_TURN,
    IGNORES_ROTARY_DIM,
    INTERLEAVED,
    LAYERED,
    PARTIAL,
    REVERSED,
    SECTIONS,
    SECTIONS_OF_THE_HEAD,
    THETA,
    TWO_MSCALES,
    axes_of_pairs,
    is_interleaved,
)
from rope_deploy.rope.read_rule import is_number, is_size, read_rule, rule_named
from rope_deploy.rope.rope_parameters import RopeParameters, short
from rope_deploy.rope.rules import RULES, DynamicNTK, NtkAlpha, Scaling
from rope_deploy.rope.spec import LARGEST_HEAD, RopeSpec, axes_faults, fill_faults, section_faults

TEXT_PARTS = ("text_config", "thinker_config", "language_config", "llm_config")
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
# Keys beside the rope dictionary that state a rotation or its layers and are read, here or in rotating_layers.py.
_READ = frozenset(_SIGNS) | {
    "layer_rope_theta", "no_rope_layer_interval", "no_rope_layers", "rope_interleave", "use_mem_rope",
}  # fmt: skip
LIKE_ROPE = re.compile("rope|rotary|ntk|yarn|xpos|neox_style|position_interpolation")
_USUAL = {
    "use_rope": True,
    "use_rotary": True,
    "is_neox_style": True,
}  # the value that has no effect; false for all others
RULE_KEYS = {field for rule in RULES.values() for field in rule.__dataclass_fields__}
_HEAD_DIM = ("head_dim", "attention_head_dim", "qk_rope_head_dim", "kv_channels")
_HEAD_COUNT = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_num_attention_heads")
WIDTH_KEYS = ("hidden_size", "n_embd", "d_model")
THETA_KEYS = ("rope_theta", "rotary_emb_base")
UNSTATED_MAX_POSITION = 4096
_MAX_POSITION = ("max_position_embeddings", "n_positions", "max_seq_len", "model_max_length")


def specs_from_config(config: Mapping[str, Any], *, interleaved: bool | None = None) -> dict[str, RopeSpec]:
    """One spec per rotation of the model: keyed by layer type, or by "" when there is only one rule.

    config: the JSON of a model, or of a multimodal model, whose text part is then taken. `interleaved` is not in
    most configurations: None looks the model type up (family_facts.py), a bool overrides.

    Values left out are filled in as transformers 5.23 does: from the keys of version 4, then from the defaults of
    the model type. Where transformers knows the model type, have its own class read the file first
    (models/loading/stated_rotation.py). A key of a rope dictionary that nothing reads is a fault.

    Raises ModelError where no rotation is stated, UsageError for an unknown rope type, ConfigError with every fault.
    """
    config = text_config(config)
    if faults := _shape_faults(config):
        raise ConfigError(f"The RoPE settings of this {model_type_of(config)} configuration are wrong:", faults)
    _require_rope(config)
    if interleaved is None:
        interleaved = is_interleaved(config)
    specs: dict[str, RopeSpec] = {}
    parameters_of, faults = _parameters(config)
    for layer_type, parameters in parameters_of.items():
        where = f"{layer_type}: " if layer_type else ""
        found, wrong = _spec(config, layer_type, parameters, interleaved)
        faults += [where + fault for fault in wrong]
        if found is not None:
            specs[layer_type] = found
    if faults:
        raise ConfigError(f"The RoPE settings of this {model_type_of(config)} configuration are wrong:", faults)
    return specs


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a multimodal configuration that describes the language model; else the whole."""
    for part in TEXT_PARTS:
        inner = config.get(part)
        if isinstance(inner, Mapping) and inner:
            return text_config(inner)
    return config


def stated_length(config: Mapping[str, Any]) -> int | None:
    """The positions that a model says it was made for, whether or not it says how it rotates."""
    stated = _first(text_config(config), _MAX_POSITION)
    return stated if is_size(stated) else None


def unread_keys(config: Mapping[str, Any]) -> list[str]:
    """Keys beside the rope dictionary that look like a rotation's and are read by nobody (ChatGLM's rope_ratio).

    Only a model type that transformers does not know can mean something by them.
    """
    return sorted(
        key
        for key, value in text_config(config).items()
        if LIKE_ROPE.search(str(key))
        and key not in _READ
        and value not in (None, {}, [])
        and value is not _USUAL.get(str(key), False)
    )


def stated_twice(config: Mapping[str, Any]) -> list[str]:
    """Settings that a configuration states twice and differently, one sentence each.

    Which of the two counts is the business of the model's own code; where that is not known, neither can be taken.
    """
    config = text_config(config)
    inside = {**(config.get("rope_parameters") or {}), **(config.get("rope_scaling") or {})}
    found = []
    for names in (THETA_KEYS, ("partial_rotary_factor", "rotary_pct"), ("original_max_position_embeddings",)):
        stated = {name: config[name] for name in names if config.get(name) is not None}
        stated |= {f"{name} in the rope dictionary": inside[name] for name in names if inside.get(name) is not None}
        if any(value != next(iter(stated.values())) for value in stated.values()):
            found.append(" and ".join(f"{name} is {short(value)}" for name, value in stated.items()) + ".")
    return found


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
    """Raise ModelError where no rotation is stated, or where a rotation is of a kind that no RopeSpec can state."""
    model_type = str(config.get("model_type"))
    stated = any(config.get(key) is not None for key in _SIGNS) or model_type in INTERLEAVED | LAYERED.keys()
    stated |= "rope_scaling" in config  # null: a configuration of version 4 without scaling
    if stated and not denies_rotation(config):
        return
    exists, todo = "Its configuration says that positions are of another kind.", ""
    if not stated:
        exists = f"Its configuration has none of {', '.join(_SIGNS)}."
        todo = "If its code rotates all the same, export the model itself: its graph shows how it rotates."
    raise ModelError(
        f"The configuration of this {model_type_of(config)} model states no rotary position embedding.",
        exists=exists,
        todo=todo,
    )


def denies_rotation(config: Mapping[str, Any]) -> bool:
    """Whether a configuration says that positions are of another kind: ALiBi, embedded, none."""
    parameters = config.get("rope_parameters")
    still = isinstance(parameters, Mapping) and parameters and all(value is None for value in parameters.values())
    return bool(
        still  # every layer type's entry is null
        or config.get("alibi") is True
        or config.get("position_embedding_type") not in (None, "rope", "rotary")
        or config.get("qk_rope_head_dim") == 0
        or config.get("use_mem_rope") is False
    )


def _thetas_by_layer(config: Mapping[str, Any]) -> list[float]:
    """The distinct bases of `layer_rope_theta` (Granite), where 0 marks a layer that does not rotate."""
    return sorted({theta for theta in config.get("layer_rope_theta") or () if theta})


def _parameters(config: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """`rope_parameters` as transformers 5 nests it: by layer type, or under "" when flat; or by base, where layers that
    are of one type otherwise have several. And what is wrong with it as a whole."""
    stated, scaling = dict(config.get("rope_parameters") or {}), dict(config.get("rope_scaling") or {})
    nested = {key: value for key, value in stated.items() if isinstance(value, Mapping) and key not in RULE_KEYS}
    layered = LAYERED.get(str(config.get("model_type")))
    if layered and not stated:
        nested = {"full_attention": {}, "sliding_attention": {}}
    if nested:
        outside = {key: value for key, value in stated.items() if key not in nested and value is not None}
        # transformers reads `truncate` beside the layer types, not inside them (modeling_rope_utils, YaRN).
        shared = {"truncate": outside.pop("truncate")} if "truncate" in outside else {}
        faults = [f"{key} stands beside the layer types, where nothing reads it." for key in outside]
        if scaling and not layered:
            faults.append("rope_scaling stands beside a rope_parameters of several rules: say in these what it scales.")
        found = {}
        for key, value in nested.items():
            base = {} if "rope_theta" in value or not layered else {"rope_theta": _layer_theta(config, key)}
            scaled = scaling if layered and (key != "sliding_attention" or layered[-1]) else {}
            found[key] = {**base, **value, **scaled}
            inside = found[key].pop("truncate", None)
            if inside is not None and inside != stated.get("truncate", True):
                faults.append(f"{key}: truncate is read beside the layer types, not inside them.")
            if _named(found[key]) == "yarn":
                found[key] |= shared
        return found, faults
    if len(thetas := _thetas_by_layer(config)) > 1:
        return {f"rope_theta {theta:g}": {**(scaling or stated), "rope_theta": theta} for theta in thetas}, []
    differing = [key for key in scaling if key in stated and stated[key] != scaling[key]]
    faults = [f"{key} is one thing in rope_scaling and another in rope_parameters." for key in differing]
    return {"": {**stated, **scaling}}, faults


def _layer_theta(config: Mapping[str, Any], layer_type: str) -> Any:
    """The base of one layer type of a layered family where its parameters do not state it."""
    full_key, full, sliding_key, sliding, _ = LAYERED[str(config.get("model_type"))]
    key, default = (sliding_key, sliding) if layer_type == "sliding_attention" else (full_key, full)
    return config.get(key) or default


def _spec(
    config: Mapping[str, Any], layer_type: str, parameters: Mapping[str, Any], interleaved: bool
) -> tuple[RopeSpec | None, list[str]]:
    settings, model_type = RopeParameters(parameters), str(config.get("model_type", ""))
    rule, faults = _rule(settings, model_type)
    head_dim, max_position = _head_dim(config, layer_type), _max_position(config, rule)
    theta, partial = _theta(config, settings, model_type), _partial(config, settings, model_type)
    section = settings.read("mrope_section") or SECTIONS.get(model_type, ())
    if model_type in SECTIONS_OF_THE_HEAD:
        section = ()

    faults += [*section_faults(section), *_range_faults(head_dim, max_position, theta, partial)]
    rotary_dim = exponent_dim = 0
    if not faults:  # else the rule's own faults too, as far as they are known
        whole = rule.rope_type == "proportional"
        rotary_dim, exponent_dim = (head_dim, 0) if whole else _widths(config, head_dim, partial)
        if rotary_dim % 2 or not 0 < rotary_dim <= head_dim:
            faults.append(f"the rotary dimension must be even and within the head of {head_dim}; it is {rotary_dim}.")
        if exponent_dim and rule.rope_type == "yarn":
            faults.append(f"yarn scaling needs an even width; partial_rotary_factor {partial:g} makes {exponent_dim}.")

    interleaved_axes = model_type in AXES_IN_TURN or (
        model_type not in SECTIONS and settings.read("mrope_interleaved") is True
    )
    axes = axes_of_pairs(model_type, section) if not faults else ()
    if section and not axes and not interleaved_axes and not faults:
        faults += fill_faults(section, rotary_dim)
    faults += axes_faults(axes, section, rotary_dim)
    fields = set(rule.__dataclass_fields__) - (set() if model_type in TWO_MSCALES else {"short_mscale", "long_mscale"})
    known = settings.of_rule(fields)
    if rule.rope_type == "proportional":
        known["partial_rotary_factor"] = partial
    if not layer_type and is_size(config.get("original_max_position_embeddings")):
        known["original_max_position_embeddings"] = config["original_max_position_embeddings"]  # Phi-3 states it there
    if model_type in TWO_MSCALES and "short_factor" in known:
        known["long_factor"] = known["short_factor"]
    scaling, wrong = read_rule(rule, rule.complete(known, max_position if is_size(max_position) else 1), rotary_dim)
    faults += wrong + settings.unread(rule.rope_type)
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
            mrope_interleaved=bool(section) and interleaved_axes,
            mrope_axes=axes,
            exponent_dim=exponent_dim,
        ),
        [],
    )


def _range_faults(head_dim: Any, max_position: Any, theta: Any, partial: Any) -> Iterator[str]:
    if not is_size(head_dim):
        yield "the head size is missing: head_dim, or hidden_size and num_attention_heads."
    elif head_dim > LARGEST_HEAD:
        yield f"head_dim, the head size, must be at most {LARGEST_HEAD}; it is {head_dim}."
    if not is_size(max_position):
        yield f"max_position_embeddings must be a whole number above 0, not {max_position!r}."
    if not (is_number(theta) and theta > 1):
        yield f"rope_theta must be a finite number above 1, not {short(theta)}."
    if not (is_number(partial) and 0 < partial <= 1):
        yield f"partial_rotary_factor must lie above 0 and not above 1, not {short(partial)}."


def _rule(settings: RopeParameters, model_type: str) -> tuple[type[Scaling], list[str]]:
    """The rule's class, by `rope_type` or by the older `type`, and what is wrong with these.

    Raises UsageError for a name that is not known. Older names are translated as the configuration
    classes do.
    """
    names = {key: settings.read(key) for key in ("rope_type", "type") if settings.states(key)}
    faults = [f"{key} is null: leave it out, or name a rule." for key, name in names.items() if name is None]
    if names.get("rope_type") is not None:
        faults = []  # whatever the older key says
    named = [_translated(name, model_type) for name in names.values() if name is not None]
    rule = rule_named(named[0] if named else "default")
    if len(named) == 2 and named[0] != named[1]:
        faults.append(f"rope_type says {names['rope_type']!r}, and type says {names['type']!r}.")
    if rule is DynamicNTK and model_type.startswith(ALPHA) and settings.read("alpha"):
        rule = NtkAlpha
    return rule, faults


def _named(parameters: Mapping[str, Any]) -> object:
    return parameters.get("rope_type") or parameters.get("type") or "default"


def _translated(name: object, model_type: str) -> object:
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
    hidden, heads = _first(config, WIDTH_KEYS), _first(config, _HEAD_COUNT)
    return hidden // heads if is_size(hidden) and is_size(heads) else None


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


def _theta(config: Mapping[str, Any], settings: RopeParameters, model_type: str) -> Any:
    thetas, own = _thetas_by_layer(config), settings.read("rope_theta")
    if len(thetas) == 1:
        return thetas[0]
    if own is not None or settings.states("rope_theta"):
        return own  # null as well: transformers cannot raise it to a power
    stated = _first(config, THETA_KEYS)
    return THETA.get(model_type, 10_000.0) if stated is None else stated


def _partial(config: Mapping[str, Any], settings: RopeParameters, model_type: str) -> Any:
    for stated in (settings.read("partial_rotary_factor"), _first(config, ["partial_rotary_factor", "rotary_pct"])):
        if stated is not None:
            return stated
    return PARTIAL.get(model_type, 1.0)


def _widths(config: Mapping[str, Any], head_dim: int, partial: float) -> tuple[int, int]:
    """How many elements are rotated, and the odd width that PyTorch's arange(0, width, 2) rounded up to it, else 0.

    `rotary_dim` (GPT-J, CodeGen) counts elements; the other keys are shares of the head.
    """
    stated = config.get("rotary_dim")
    if is_size(stated) and config.get("model_type") not in IGNORES_ROTARY_DIM:
        return stated, 0
    width = int(head_dim * partial)
    return (width + 1, width) if width % 2 and width < head_dim else (width, 0)


def _first(values: Mapping[str, Any], names: Any) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def model_type_of(config: Mapping[str, Any]) -> str:
    """The model type, for messages."""
    return str(config.get("model_type") or "unnamed")
