"""Families with the rule that their published checkpoints have, where it is another than their configuration's default.

What stands here is what such a config.json says of the rotation, in the words of its day: `rope_scaling` beside
`rope_theta`, or `rope_parameters`. Only lengths are small, so that the context a rule was made for can be crossed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.families.census import Family
from conformance.families.judge import LIKE_THE_MODEL
from conformance.families.ropes import CHANGES, judge_saved, long_answer
from conformance.families.shrink import ORIGINAL
from conformance.families.tiny import tiny_model
from conformance.families.verdicts import first_line, innermost

Settings = Mapping[str, Any]
NESTED = ("text_config", "thinker_config")
RULES = ("rope_parameters", "rope_scaling", "rope_theta", "max_position_embeddings", "original_max_position_embeddings")


def _scaled(rule: Settings, theta: float, times: float = 4.0, **others: Any) -> Settings:
    """As checkpoints state it: a rule in `rope_scaling`, and the length that it stretches the context to."""
    return {"rope_theta": theta, "max_position_embeddings": int(ORIGINAL * times), "rope_scaling": rule, **others}


def _llama3(factor: float, high: float = 4.0, **others: Any) -> Settings:
    own = {"factor": factor, "low_freq_factor": 1.0, "high_freq_factor": high}
    return {"rope_type": "llama3", **own, "original_max_position_embeddings": ORIGINAL, **others}


def _yarn(factor: float, key: str = "rope_type", **others: Any) -> Settings:
    return {key: "yarn", "factor": factor, "original_max_position_embeddings": ORIGINAL, **others}


def _longrope(pairs: int, **others: Any) -> Settings:
    short = [1.0 + 0.02 * pair for pair in range(pairs)]
    return {"type": "longrope", "short_factor": short, "long_factor": [1.0 + 0.9 * p for p in range(pairs)], **others}


DEEPSEEK = {"beta_fast": 32, "beta_slow": 1}
HUNYUAN = {**DEEPSEEK, "type": "dynamic", "alpha": 1000.0, "factor": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}
MSCALES = {"short_mscale": 1.243163121016122, "long_mscale": 1.25}
# Its own sections, as many pairs as a tiny head has.
SECTIONS = {"mrope_section": [2, 3, 3]}

PUBLISHED: Mapping[str, Mapping[str, Settings]] = {
    "llama": {
        "Llama 3.1": _scaled(_llama3(8.0), 500_000.0),
        "LLaMA-2 7B 32K": _scaled({"type": "linear", "factor": 8.0}, 10_000.0),
        "InternLM2": _scaled({"type": "dynamic", "factor": 2.0}, 1e6, 1),
    },
    "llama4_text": {"Llama 4 Scout": _scaled(_llama3(16.0, 1.0), 500_000.0)},
    "apertus": {"Apertus": _scaled(_llama3(8.0, type="llama3"), 12e6)},
    "cwm": {"CWM": _scaled(_llama3(16.0), 1e6)},
    "exaone4": {"EXAONE 4.0": _scaled(_llama3(16.0), 1e6)},
    "arcee": {"AFM 4.5B": _scaled(_yarn(20.0, **DEEPSEEK, mscale=1.0), 1e4)},
    "qwen2": {"Qwen2.5, extended": _scaled(_yarn(4.0, "type"), 1e6)},
    "qwen3": {"Qwen3, extended": _scaled(_yarn(4.0), 1e6)},
    "qwen3_moe": {"Qwen3 MoE, extended": _scaled(_yarn(4.0), 1e6)},
    "qwen3_next": {"Qwen3-Next, extended": _scaled(_yarn(4.0), 1e7)},
    "qwen2_5_vl": {"Qwen2.5-VL, extended": _scaled(_yarn(4.0, "type", **SECTIONS), 1e6)},
    "smollm3": {"SmolLM3, extended": _scaled(_yarn(2.0), 5e6)},
    "olmo3": {"OLMo 3": _scaled(_yarn(8.0, **DEEPSEEK, attention_factor=1.2079441541679836), 5e5)},
    "deepseek_v2": {"DeepSeek-V2": _scaled(_yarn(40, "type", **DEEPSEEK, mscale=0.707, mscale_all_dim=0.707), 1e4)},
    "deepseek_v3": {
        "DeepSeek-V3": _scaled(_yarn(40, "type", **DEEPSEEK, mscale=1.0, mscale_all_dim=1.0), 1e4),
        "Kimi K2": _scaled(_yarn(32.0, "type", beta_fast=1.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0), 5e4),
    },
    "deepseek_v32": {"DeepSeek-V3.2": _scaled(_yarn(40, "type", **DEEPSEEK, mscale=1.0, mscale_all_dim=1.0), 1e4)},
    "gpt_oss": {"gpt-oss": _scaled(_yarn(32.0, beta_fast=32.0, beta_slow=1.0, truncate=False), 150_000.0)},
    "ministral3": {
        "Ministral 3": {
            "max_position_embeddings": 4 * ORIGINAL,
            "rope_parameters": {
                **_yarn(16.0, **DEEPSEEK, mscale=1.0, mscale_all_dim=1.0),
                **{"type": "yarn", "rope_theta": 1e6, "llama_4_scaling_beta": 0.1},
            },
        }
    },
    "phi3": {"Phi-3.5 mini": _scaled(_longrope(8), 1e4, original_max_position_embeddings=ORIGINAL)},
    "phimoe": {
        "Phi-3.5 MoE": _scaled(
            _longrope(8, **MSCALES, original_max_position_embeddings=ORIGINAL),
            1e4,
            original_max_position_embeddings=ORIGINAL,
        )
    },
    "minicpm3": {"MiniCPM3": _scaled(_longrope(4, original_max_position_embeddings=ORIGINAL), 1e4, 1)},
    "gemma3_text": {"Gemma 3": _scaled({"rope_type": "linear", "factor": 8.0}, 1e6, rope_local_base_freq=1e4)},
    "gemma4_text": {
        "Gemma 4": {
            "max_position_embeddings": 4 * ORIGINAL,
            "rope_parameters": {
                "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        }
    },
    "hunyuan_v1_dense": {"Hunyuan 7B": _scaled(HUNYUAN, 1e4)},
    "hunyuan_v1_moe": {"Hunyuan A13B": _scaled(HUNYUAN, 1e4)},
}
# Of each rule one, with one style, for a run of minutes: other styles see the same tables.
SUBSET = ("llama", "qwen3", "phi3", "deepseek_v3", "gemma3_text", "gpt_oss")
SUBSET_STYLES = ("onnx",)


def judge_published(family: Family, titles: Sequence[str], styles: Sequence[str], expected: int, work: Path) -> None:
    """Judge each of `titles`; what is known so far lies in `work`/published.json as {title: result}."""
    plain, found = tiny_model(family), {}
    for title in titles:
        with tempfile.TemporaryDirectory(dir=work, ignore_cleanup_errors=True) as folder:
            found[title] = _judge(family, plain, PUBLISHED[family.name][title], styles, expected, Path(folder))
        (work / "published.json").write_text(json.dumps(found))


def _judge(family: Family, plain, settings: Settings, styles, expected: int, folder: Path) -> dict[str, Any]:
    """The model is what transformers makes of such a file; what is exported is what rope-deploy reads of it."""
    try:
        plain.save_pretrained(folder / "model")
        without, model = (_stating(family, folder / "model", one) for one in (unscaled(settings), settings))
        moved = float((long_answer(model) - long_answer(without)).abs().max())
    except Exception as error:  # transformers' code may raise anything
        return {"verdict": "unbuildable", "reason": first_line(error), "where": innermost(error)}
    if moved <= CHANGES:
        return {"verdict": "unaccepted", "reason": "It takes no notice of it."}
    want = long_answer(model)
    bound = LIKE_THE_MODEL * max(1.0, float(want.abs().max()))
    return judge_saved(folder, want, bound, long_answer, styles, expected)


def _stating(family: Family, folder: Path, settings: Settings):
    """The model in `folder`, as transformers loads it once its configuration says `settings`."""
    path = folder / "config.json"
    path.write_text(json.dumps(stated(json.loads(path.read_text()), settings), indent=1))
    return family.model_class().from_pretrained(folder).eval()


def unscaled(settings: Settings) -> Settings:
    """The same with every rule called the default one, which reads none of its numbers but the base and the width."""
    found = dict(settings)
    for name in ("rope_scaling", "rope_parameters"):
        if (rule := found.get(name)) is not None:
            layered = any(isinstance(one, dict) for one in rule.values())
            found[name] = {key: _default(one) for key, one in rule.items()} if layered else _default(rule)
    return found


def _default(rule: Settings) -> Settings:
    return {**{key: value for key, value in rule.items() if key != "type"}, "rope_type": "default"}


def stated(config: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """A saved configuration with the rotation stated as `settings` have it, and in no other place."""
    inner = next((config[name] for name in NESTED if isinstance(config.get(name), dict)), None)
    for part in (config, inner or {}):
        for name in RULES:
            part.pop(name, None)
    (config if inner is None else inner).update(settings)
    return config
