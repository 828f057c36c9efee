"""What a config.json says of the rotation, as transformers' own configuration class for its model type reads it.

The classes know the keys of every earlier version, the defaults of their model type, and which of two settings counts;
a reader of our own would not. No weights are read, no code of the model's is run, nothing is fetched.
"""

from __future__ import annotations

import copy
import importlib.util
import inspect
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig

from rope_deploy.errors import ConfigError, ModelError, UsageError, quoted
from rope_deploy.models.library_errors import code_line
from rope_deploy.models.loading.rotary_module import disagreements
from rope_deploy.models.transformers_private import CONFIG_MAPPING, decode_special_floats
from rope_deploy.rope import RopeSpec, specs_from_config, text_config
from rope_deploy.rope.bounds import MOST_LAYERS
from rope_deploy.rope.from_config import (
    LIKE_ROPE,
    RULE_KEYS,
    TEXT_PARTS,
    THETA_KEYS,
    denies_rotation,
    model_type_of,
    stated_twice,
    unread_keys,
)
from rope_deploy.rope.read_config import read_config_file
from rope_deploy.rope.read_rule import is_number
from rope_deploy.rope.rope_parameters import short

_COUNTS = re.compile("layers?$|depth|blocks?$")
# Nothing of these matters to a rotation, and the classes would build long lists of some and refuse others.
_LEFT_OUT = frozenset({
    "num_labels", "id2label", "label2id", "problem_type", "dtype", "torch_dtype", "quantization_config", "auto_map",
    "attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation",
    "output_attentions",
})  # fmt: skip
_RENAMED = frozenset({"type", "rope_type", "xdrope_section"})  # judged by name, by who reads them
# Beside the rope dictionaries, as published files spell a base and the share of a head that rotates.
_SHARES = ("rotary_pct", "rotary_emb_fraction")
_SIZES = ("hidden_size", "num_attention_heads", "num_hidden_layers", "head_dim", "max_position_embeddings")


@dataclass(frozen=True)
class StatedRotation:
    """`config` with what its class fills in, and the rotations it states, by layer type ("" where there is one)."""

    config: Mapping[str, Any]
    specs: dict[str, RopeSpec]


def stated_rotation(config: Mapping[str, Any]) -> StatedRotation:
    """What a model's configuration, as JSON has it, says of the rotation.

    A model type that transformers does not know is read by its rope keys alone (`specs_from_config`). Where it does,
    the specs are held against the model type's own rotary module.

    Raises ModelError where no rotation is stated or nothing reads how, UsageError for an unknown rope type,
    ConfigError with every fault.
    """
    full, own = read_by_class(config)
    _require_rotating(full)
    if own is None and (keys := unread_keys(full)):
        raise ModelError(
            f"The rotation of this {model_type_of(full)} model follows from keys that nothing here reads: "
            f"{', '.join(keys)}.",
            exists="transformers does not know the model type; only the model's own code says what they mean.",
            todo="Export the model itself: its graph shows how it rotates.",
        )
    if own is None and (faults := stated_twice(full)):
        raise ConfigError(
            f"This {model_type_of(full)} configuration states a setting of its rotation twice:",
            faults,
            todo="Leave out the one that the model's code does not read.",
        )
    specs = specs_from_config(full)
    if own is not None and (faults := disagreements(own, specs)):
        raise ConfigError(
            f"What is read here of this {model_type_of(full)} configuration is not what transformers "
            f"{transformers.__version__} makes of it:",
            faults,
            todo="A key that its module takes no notice of, or that is not known here, is the usual reason.",
        )
    return StatedRotation(full, specs)


def specs_to_compare(config: Mapping[str, Any]) -> dict[str, RopeSpec]:
    """The rotations that the configuration of a loaded model states, to hold its graph against; {} if it states none.

    Raises ModelError for a model type of transformers that has none, whatever its configuration says, UsageError for
    an unknown rope type, ConfigError with every fault.
    """
    _require_rotating(config)
    try:
        specs = specs_from_config(config)
    except ModelError:
        text = text_config(config)
        if is_known(text) and not text.get("auto_map") and denies_rotation(text):
            raise
        return {}
    plain = is_known(text_config(config)) or not (unread_keys(config) or stated_twice(config))
    return specs if plain else {}


def _require_rotating(config: Mapping[str, Any]) -> None:
    """Raise ModelError where the model type is transformers' own and its code has no rotation: Bloom, GPT-2."""
    text = text_config(config)
    if not is_known(text) or text.get("auto_map") or _rotates(text["model_type"]):
        return
    keys = sorted(key for key, value in text.items() if LIKE_ROPE.search(str(key)) and value is not None)
    raise ModelError(
        f"A {model_type_of(text)} model has no rotary position embedding: transformers' code for it rotates nothing.",
        exists=f"Its configuration states {', '.join(keys)}, which nothing reads." if keys else "",
        todo="Choose a model that rotates; if this one brings code of its own that does, its auto_map must name it.",
    )


@cache
def _rotates(model_type: str) -> bool:
    """Whether transformers' code of a model type speaks of a rotation."""
    name = CONFIG_MAPPING[model_type].__module__.replace(".configuration_", ".modeling_")
    spec = importlib.util.find_spec(name)
    code = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else "rotary"
    return bool(re.search(r"rotary|\brope|_rope", code))


def check_file(where: str, *, trust_remote_code: bool) -> None:
    """Raise ConfigError for the config.json in the folder `where` if transformers' own class refuses it, or would fill
    the memory with what it asks for. Other sources, and files that are no JSON, are left to who loads them."""
    try:
        config = read_config_file(Path(where))
    except (ConfigError, OSError):
        return
    if not (trust_remote_code and config.get("auto_map")):
        read_by_class(config)


def read_by_class(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], PreTrainedConfig | None]:
    """`config` as transformers' class of its model type writes it, and the object for its text part.

    Of a model type that is not known, `config` as it is and None; unless that of its text part is known. Raises
    ConfigError for a configuration that the class refuses, which names every fault that can be found.
    """
    part = next((one for one in (config, text_config(config)) if is_known(one)), None)
    _require_counts(config)
    if part is None:
        return config, None
    kept = {key: value for key, value in part.items() if key not in _LEFT_OUT}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = CONFIG_MAPPING[kept.pop("model_type")](**decode_special_floats(copy.deepcopy(kept)))
            full = decode_special_floats(json.loads(made.to_json_string(use_diff=False)))
    except Exception as error:  # the classes raise whatever happens in them
        _require_rotating(part)
        raise _refused(part, error) from error
    own, text = _text_object(made), text_config(full)
    if faults := list(_dropped(text_config(part), own)):
        raise ConfigError(f"transformers' {type(own).__name__} passes over settings of this configuration:", faults)
    for size in _SIZES:  # some spell these otherwise
        if text.get(size) is None and isinstance(value := _attribute(own, size), int):
            text[size] = value
    if part.get("auto_map"):  # the class has no use for it; whether a model type's own code counts depends on it
        text["auto_map"] = part["auto_map"]
    rules = text.get("rope_parameters") or {}
    for rule in (rules, *rules.values()):
        if isinstance(rule, dict) and "rope_type" in rule:
            rule.setdefault("partial_rotary_factor", 1.0)  # as modeling code takes a share that the class left out
    return full, own


def is_known(config: Mapping[str, Any]) -> bool:
    """Whether transformers has a configuration class for its model type."""
    model_type = config.get("model_type")
    return isinstance(model_type, str) and model_type in CONFIG_MAPPING


def _dropped(config: Mapping[str, Any], own: PreTrainedConfig) -> Iterator[str]:
    """What the rope dictionaries of `config` state and no rule of its class has, one sentence each.

    Some classes have none, some replace one dictionary by the other, some know no layers of a type.
    """
    reads = "rope_parameters" in inspect.getsource(type(own))  # else what is stated becomes an attribute of no use
    stated = (_attribute(own, "rope_parameters") or {}) if reads else {}
    layers = own.nested_rope_parameter_keys(stated)
    rules = [rule for rule in stated.values() if isinstance(rule, Mapping)] if layers else []
    for key, value in stated.items():  # a rule for layers that a model of several rules does not have is no matter
        if isinstance(value, Mapping) and not layers and key not in RULE_KEYS:
            yield f"rope_parameters.{key} is not read: {type(own).__name__} has no rule of its own for such layers."
    for name in ("rope_scaling", "rope_parameters"):
        given = config.get(name)
        for where, value in _values(given if isinstance(given, Mapping) else {}, f"{name}."):
            key = where.rpartition(".")[2]
            kept = (key, value) == ("rope_theta", own.default_theta)  # GPT-J does what it says, unread
            kept |= key in _RENAMED or value != value or any(rule.get(key) == value for rule in (*rules, stated))
            if value is not None and not kept:
                yield f"{where} is {short(value)}, and no rule of {type(own).__name__} has it."
    if reads:
        yield from _dropped_beside(config, own, (*rules, stated))


def _dropped_beside(
    config: Mapping[str, Any], own: PreTrainedConfig, rules: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """The same of what is stated beside the dictionaries, or as DBRX has it with the settings of attention.

    A field that the class itself declares is its own business.
    """
    declared = getattr(type(own), "__dataclass_fields__", {})
    attention = config.get("attn_config")
    stated = [(key, key, config.get(key)) for key in (*THETA_KEYS, *_SHARES) if key not in declared]
    if isinstance(attention, Mapping):
        stated += [(f"attn_config.{key}", key, attention.get(key)) for key in (*THETA_KEYS, *_SHARES)]
    for where, key, value in stated:
        field, usual = ("rope_theta", own.default_theta) if key in THETA_KEYS else ("partial_rotary_factor", 1)
        if is_number(value) and not any(rule.get(field, usual) == value for rule in rules):
            yield f"{where} is {short(value)}, and no rule of {type(own).__name__} has it."


def _text_object(made: PreTrainedConfig) -> PreTrainedConfig:
    inner = (getattr(made, part, None) for part in TEXT_PARTS)
    found = next((one for one in inner if isinstance(one, PreTrainedConfig)), None)
    return made if found is None else _text_object(found)


def _attribute(made: PreTrainedConfig, name: str) -> Any:
    """The attribute `name` of `made`; None where it has several values, which its class raises for."""
    try:
        return getattr(made, name, None)
    except ValueError:  # a size that differs by layer
        return None


def _require_counts(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for more layers than any model has: the classes make lists of as many entries."""
    faults = [f"{where} must be at most {MOST_LAYERS}; it is {value}." for where, value in _too_many(config)]
    if faults:
        raise ConfigError(f"This {model_type_of(config)} configuration is of no model that could exist:", faults)


def _too_many(config: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, int]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _too_many(value, f"{inside}{key}.")
        elif isinstance(value, int | float) and value > MOST_LAYERS and _COUNTS.search(str(key)):
            yield f"{inside}{key}", value


def _of_another_kind(config: Mapping[str, Any]) -> Iterator[str]:
    """Settings whose value is a text where the class itself has a number, or the reverse.

    Nothing for a class that has no defaults to compare with: the caller reports the class's own message.
    """
    try:
        usual = CONFIG_MAPPING[config["model_type"]]()
    except Exception:  # not every class can be made of nothing
        return
    for key, value in config.items():
        own = vars(usual).get(key)
        if is_number(own) != is_number(value) and isinstance(own, str | int | float) and isinstance(value, str | int):
            yield f"{key} is {short(value)}, where the class has {short(own)}."


def _refused(config: Mapping[str, Any], error: Exception) -> UsageError:
    """Why transformers' class does not take `config`, by the faults that our own reader finds, else by its message."""
    try:
        specs_from_config(config)
    except ModelError:  # no rotation is stated: the class's own message says more
        pass
    except UsageError as ours:
        return ours
    message = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    named = set(re.findall(r"[a-z]\w+", message))
    if isinstance(error, ZeroDivisionError):
        zeros = {where.rpartition(".")[2] for where, value in _values(config) if value == 0 and value is not False}
        named |= zeros & set(re.findall(r"\w+", code_line(error))) or zeros
    if isinstance(error, KeyError):  # of what is not where the class looks for it, whatever stands elsewhere
        absent = set(re.findall(r"\w+", message.rpartition("{")[2])) & RULE_KEYS
        faults = [f"{key} is missing, or not where it is looked for." for key in sorted(absent)]
    else:
        faults = [
            f"{where} is {short(value)}, which is of a kind or size that it cannot be."
            for where, value in _values(config)
            if where.rpartition(".")[2] in named
        ]
    if not faults:
        missing = sorted(named & RULE_KEYS - {where.rpartition(".")[2] for where, _ in _values(config)})
        faults = [f"{key} is missing, or not where it is looked for." for key in missing]
    if not faults:
        faults = list(_of_another_kind(config))
    if not faults:  # settings of the rotation that its code stumbled over
        stated = (one for one in _values(config) if LIKE_ROPE.search(one[0]))
        faults = [f"{where} is {short(value)}: perhaps it is not as it looks for it." for where, value in stated]
    return ConfigError(
        f"transformers' configuration class for {model_type_of(config)} does not take this configuration:",
        faults[:8],
        exists=quoted("transformers", message or type(error).__name__),
        todo="Compare it with the file that was published with the model.",
    )


def _values(config: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _values(value, f"{inside}{key}.")
        else:
            yield f"{inside}{key}", value
