"""A tiny configuration of any family: sizes shrunk by what they are called, rotary settings kept as they are.

Everything starts from the defaults of the family's own configuration class. Lists with an entry per layer are cut to
the fewest layers that still show every kind of layer. What the rules below get wrong is put right in `exceptions`.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.families.exceptions import settings_of
from conformance.families.source import default_sections

VOCAB, POSITIONS, ORIGINAL = 96, 2048, 32
HIDDEN, HEADS, HEAD_DIM, ROTARY, WINDOW = 64, 4, 16, 8, 8
PATCHED_WINDOW = 32  # in pixels: two merged patches of eight
# A rule that splits a part of the head among three axes needs a head long enough for all three.
LONG_HEAD_DIM = 64
MOST_LAYERS = 6
LAYERS = re.compile(
    r"(^|_)num_hidden_layers$|^(n_layers?|num_layers|num_(en|de)coder_layers|(en|de)coder_layers|depth)$"
)
TOKENS = {"pad": 0, "bos": 1, "cls": 1, "decoder_start": 1, "eos": 2, "sep": 2, "mask": 3}
OTHER_TOKENS = VOCAB - 16  # images, audio and the like: the last ones of the vocabulary

Rule = int | Callable[[int], int]


def odd_if_odd(default: int) -> int:
    """A small kernel whose padding is as the family's own."""
    return min(default, 5 if default % 2 else 4)


def at_most(limit: int) -> Callable[[int], int]:
    return lambda default: min(default, limit)


# The first pattern that is found in the name decides.
RULES: tuple[tuple[str, Rule], ...] = (
    (r"type_vocab_size|task_type", at_most(4)),
    (r"vocab", VOCAB),
    (r"original_max_position", ORIGINAL),
    (r"rotary_dim|rope_head_dim|rope_dim", ROTARY),
    (r"nope_head_dim", ROTARY),
    (r"experts_per_tok|moe_k$|topk_method|moe_topk|experts_per_token|top_k_experts|index_topk_blocks", at_most(2)),
    (r"topk_group", 1),
    (r"n_group|num_expert_group", at_most(2)),
    (r"shared_expert.*size", HIDDEN),
    (r"shared_experts?$", at_most(1)),
    (r"(n_routed|num|local|moe_num|zero)_?(local_)?experts?(_num)?$|num_zero_experts", at_most(4)),
    (r"first_k_dense|num_dense_layers", at_most(1)),
    (r"index_topk", 16),
    (r"(index|indexer)_.*heads", 2),
    (r"(index|indexer)_.*dim", HEAD_DIM),
    (r"linear_.*key_heads", 2),
    (r"linear_.*heads", HEADS),
    (r"mamba.*heads|n_mamba_heads", 2 * HEADS),
    (r"mamba.*(head_dim|headdim|d_head)|mamba_d_head", HEAD_DIM),
    (r"mamba.*groups", at_most(2)),
    (r"d_state|state_size", at_most(16)),
    (r"chunk_size$|block_size$", at_most(16)),
    (r"conv.*kernel|conv.*cache|d_conv|kernel_size", odd_if_odd),
    (r"upsample_groups", HIDDEN),
    (r"window_len|sliding_window$|window_size|local_attention$|sliding_window_size", at_most(WINDOW)),
    (r"sliding_window_pattern|interval|period|every_n|global_attn|attention_pattern", at_most(2)),
    (r"(head|qk|v|kv)_?(head)?_dim$|attention_head_size|kv_channels|dim_head|d_head", at_most(HEAD_DIM)),
    (r"lora_rank|low_?rank|_rank$", at_most(HEAD_DIM)),
    (r"image_size", at_most(32)),
    (r"patch_size", at_most(8)),
    (r"num_channels|in_channels|temporal_patch_size|merge_size", lambda default: default),
    (r"mel_bins|feature_size", at_most(32)),
    (
        r"max_position|n_positions|max_seq|max_sequence|model_max_length|n_ctx|context_length|position_embeddings$",
        POSITIONS,
    ),
    (r"^(d_model|n_embd|embed_dim|dim|width|hidden_dim)$|model_dim|hidden_size(_global)?$", HIDDEN),
    (r"(intermediate|ffn|ff|mlp|inner|feed_forward).*(size|dim)?$", at_most(HIDDEN + HIDDEN // 2)),
    (r"(size|dim|dimension|width|channels|rank)$", at_most(HIDDEN)),
)


def tiny_settings(config_class: type, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Keyword arguments that make `config_class` tiny; `overrides` win, before lists are cut to the layers.

    What configurations inside this one need is taken from `exceptions` too.
    """
    overrides = dict(overrides or {})
    defaults = config_class()
    stated = {field.name: _default(field) for field in _fields(config_class)}
    given = {name: _given(defaults, name, default) for name, default in stated.items()}
    settings: dict[str, Any] = {}
    parts = getattr(config_class, "sub_configs", None) or {}
    for name in parts:
        part = given.get(name)
        if hasattr(part, "to_dict"):
            inner = {**settings_of(part.model_type), **overrides.pop(name, {})}
            settings[name] = type(part)(**tiny_settings(type(part), inner))
    heads = next((v for k, v in given.items() if _is_heads(k) and isinstance(v, int)), 0)
    others = iter(range(OTHER_TOKENS, VOCAB))
    for name, default in stated.items():
        if name in parts or name.startswith("_"):
            continue
        if "token" in name and name.endswith(("_id", "_ids", "_index")):
            value = _token(name, default, others)
        elif name == "head_dim" and default in (None, stated.get("qk_rope_head_dim")):
            value = ROTARY if "qk_rope_head_dim" in stated else HEAD_DIM
        elif name == "max_position_embeddings" and given[name] is None:
            value = POSITIONS
        elif name == "vocab_size" and default is None:
            value = VOCAB
        elif name == "window_size" and "patch_size" in stated:
            value = PATCHED_WINDOW
        elif name == "num_key_value_heads" and given[name] is None:
            value = HEADS
        elif isinstance(default, bool) or not isinstance(default, int):
            continue
        elif LAYERS.search(name):
            value = at_most(2)(default)
        elif re.search(r"(key_value|kv)_heads|multi_query_group|query_groups", name):
            value = default if default == 1 else HEADS if default == heads else HEADS // 2
        elif _is_heads(name):
            value = HEADS
        else:
            value = _shrunk(name, default)
        if value is not None:
            settings[name] = value
    if (rope := given.get("rope_parameters")) is not None:
        settings["rope_parameters"] = shrink_rope(copy.deepcopy(rope))
        if "max_position_embeddings" in stated and (sections := default_sections(_modeling_file(config_class))):
            for rule in rules(settings["rope_parameters"]):
                rule.setdefault("mrope_section", list(sections))
    if _splits_a_part(settings.get("rope_parameters")) and "head_dim" in given:
        settings["head_dim"] = LONG_HEAD_DIM
    settings.update(overrides)
    if not any(LAYERS.search(name) for name in overrides):
        _cut_layers(settings, given, stated, overrides)
    if isinstance(settings.get("rope_parameters"), dict):
        _fit_sections(settings)
    return settings


def shrink_rope(rope: dict[str, Any]) -> dict[str, Any]:
    """The same rule, for a context short enough to be crossed; also where there is a rule per layer type."""
    for name, value in rope.items():
        if isinstance(value, dict):
            rope[name] = shrink_rope(value)
        elif name == "original_max_position_embeddings" and value:
            rope[name] = ORIGINAL
    return rope


def _fields(config_class: type) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(config_class) if field.init]


def _modeling_file(config_class: type) -> Path:
    path = Path(inspect.getfile(config_class))
    return path.with_name(path.name.replace("configuration", "modeling"))


def _given(config: Any, name: str, default: Any) -> Any:
    """What `config` makes of a setting; its default where layers differ in it, which transformers refuses to read."""
    try:
        return getattr(config, name, None)
    except Exception:  # transformers' own kinds of error, which older releases lack
        return default


def _default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _is_heads(name: str) -> bool:
    return bool(re.search(r"(attention|query|attn|^num|^n|^swa_num|q)_heads?$", name)) and "expert" not in name


def _shrunk(name: str, default: int) -> int | None:
    for pattern, rule in RULES:
        if re.search(pattern, name):
            return rule(default) if callable(rule) else rule
    return None


def _token(name: str, default: Any, others) -> Any:
    if default is None:
        return None
    kind = name.split("_token")[0]
    value = TOKENS[kind] if kind in TOKENS else next(others)
    return [value] if isinstance(default, (list, tuple)) else value


def _cut_layers(
    settings: dict[str, Any], given: Mapping[str, Any], stated: Mapping[str, Any], overrides: Mapping[str, Any]
) -> None:
    """Keep the layers that between them show every kind there is."""
    counted = next((name for name in stated if LAYERS.search(name) and isinstance(given[name], int)), None)
    if counted is None:
        return
    layers = given[counted]
    lists = {k: v for k, v in given.items() if isinstance(v, (list, tuple)) and len(v) == layers and k not in overrides}
    lists = {k: v for k, v in lists.items() if not _are_indices(v)}
    if not lists or layers < 2:
        return
    kept = kinds(list(zip(*lists.values(), strict=True)))
    settings[counted] = len(kept)
    for name, values in lists.items():
        cut = [values[index] for index in kept]
        settings[name] = [_shrunk(name, v) or v if _is_size(v) else v for v in cut] if name != "layer_types" else cut


def _are_indices(values: Sequence[Any]) -> bool:
    """A list of which layers are of a kind, rather than of the kind of each."""
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    return whole and len(values) > 2 and list(values) == sorted(set(values))


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 2


def kinds(rows: Sequence[tuple]) -> list[int]:
    """The index of the first layer of each kind, in order; two at least."""
    rows = [repr(row) for row in rows]
    found = [index for index, row in enumerate(rows) if row not in rows[:index]][:MOST_LAYERS]
    return found if len(found) > 1 else [0, 1]


def _splits_a_part(rope: Any) -> bool:
    return any("mrope_section" in rule and rule.get("partial_rotary_factor", 1.0) < 0.5 for rule in rules(rope))


def rules(rope: Any) -> list[dict[str, Any]]:
    """The rules in a configuration's rope_parameters: one, or one for each layer type."""
    if not isinstance(rope, dict):
        return []
    nested = [value for value in rope.values() if isinstance(value, dict)]
    return nested or [rope]


def _fit_sections(settings: dict[str, Any]) -> None:
    """Sections of M-RoPE and factors of LongRoPE, as many as there are frequencies left."""
    head = settings.get("head_dim") or settings.get("hidden_size", HIDDEN) // settings.get("num_attention_heads", HEADS)
    for rule in rules(settings["rope_parameters"]):
        half = int(head * (rule.get("partial_rotary_factor") or 1.0)) // 2
        if "qk_rope_head_dim" in settings:
            half = settings["qk_rope_head_dim"] // 2
        for name in ("mrope_section", "xdrope_section"):
            if rule.get(name):
                rule[name] = spread(rule[name], half)
        for name in ("short_factor", "long_factor"):
            if rule.get(name):
                rule[name] = [rule[name][i * len(rule[name]) // half] for i in range(half)]


def spread(sections: Sequence[int], total: int) -> list[int]:
    """`total` divided as `sections` are, no section empty."""
    whole = sum(sections)
    parts = [max(1, round(section * total / whole)) for section in sections]
    while sum(parts) != total:
        step = 1 if sum(parts) < total else -1
        parts[parts.index(max(parts) if step < 0 else min(parts))] += step
    return parts
