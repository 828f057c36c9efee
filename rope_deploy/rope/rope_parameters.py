"""The `rope_parameters` of a configuration, with a record of the keys that were read: no key is ignored silently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_BESIDE_ALPHA = "Hunyuan's files state it beside alpha, and its module reads alpha alone"

# Keys that no rule reads and that do not change cos and sin, each with the reason. By rule; "" holds for all rules.
HARMLESS: Mapping[str, Mapping[str, str]] = {
    "": {
        "finetuned": "how a YaRN checkpoint was made",
        "llama_4_scaling_beta": "Mistral scales its queries by their position with it, after the rotation",
        "max_position_embeddings": "Mistral repeats it here; the configuration's own counts",
    },
    "mrope": {
        "interleaved": "Qwen3-Omni says mrope_interleaved twice",
        "mrope_interleaved": "transformers' modules take the order of the axes from the model type",
    },
    "default": {"original_max_position_embeddings": "a length before an extension that does not take place"},
    "linear": {"original_max_position_embeddings": "linear scaling does not look at lengths"},
    "dynamic": {"original_max_position_embeddings": "transformers takes max_position_embeddings for it"},
    "ntk_alpha": {
        "factor": _BESIDE_ALPHA,
        "beta_fast": _BESIDE_ALPHA,
        "beta_slow": _BESIDE_ALPHA,
        "mscale": _BESIDE_ALPHA,
        "mscale_all_dim": _BESIDE_ALPHA,
        "original_max_position_embeddings": _BESIDE_ALPHA,
    },
}


class RopeParameters:
    """The keys and values of one rule. A null counts as absent, except for `states`."""

    def __init__(self, stated: Mapping[str, Any]):
        self._stated, self._read = dict(stated), set()

    def read(self, key: str) -> Any:
        """The value of `key`, None if it is absent; `key` then counts as read."""
        self._read.add(key)
        return self._stated.get(key)

    def states(self, key: str) -> bool:
        """Whether `key` is present, also as null."""
        return key in self._stated

    def of_rule(self, keys: Iterable[str]) -> dict[str, Any]:
        """Those of `keys` that are present, nulls included; they then count as read."""
        return {key: self.read(key) for key in keys if self.states(key)}

    def unread(self, rope_type: str) -> list[str]:
        """Faults: the keys that were not read and are not known to be harmless beside this rule, one sentence each."""
        harmless = set(HARMLESS[""]) | set(HARMLESS.get(rope_type, ()))
        if self._stated.get("mrope_section"):
            harmless |= set(HARMLESS["mrope"])
        left = sorted(set(map(str, self._stated)) - self._read - harmless)
        return [
            f"{key} is not read by the rule {rope_type}, and may change the rotation; it is {short(self._stated[key])}."
            for key in left
            if self._stated.get(key) is not None
        ]


def short(value: object, most: int = 60) -> str:
    """`value` for a message, cut to `most` characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
