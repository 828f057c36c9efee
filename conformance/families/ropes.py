"""Every rope type on one decoder: which of them its own code obeys, and whether those come through export."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.families.census import Family
from conformance.families.check_styles import in_styles, traced
from conformance.families.exceptions import settings_of
from conformance.families.inputs import text
from conformance.families.judge import first_tensor
from conformance.families.record import StyleResult
from conformance.families.shrink import ORIGINAL, rules
from conformance.families.tiny import tiny_config, tiny_model
from conformance.families.verdicts import Stop, first_line, guarded
from rope_deploy import api

FACTOR = 4.0
KEPT = ("rope_theta", "partial_rotary_factor", "mrope_section", "mrope_interleaved", "xdrope_section")
TYPES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional")
# Below, at and above the length at which a rule changes, and two calls far from it.
CASES = ("prefill", "decode", "offset-half", *(
    f"{kind}-at-{ORIGINAL + shift}" for kind in ("prefill", "decode") for shift in (-1, 0, 1)
))  # fmt: skip
CHANGES = 1e-4  # what the logits must move for a rule to have been obeyed
SAME = 1e-4
LENGTH = 2 * ORIGINAL


def scaled(rope_type: str, rule: Mapping[str, Any], pairs: int) -> dict[str, Any]:
    """The settings of `rope_type` for a rule that turns `pairs` pairs of each head, its base and width kept."""
    kept = {key: rule[key] for key in KEPT if rule.get(key) is not None}
    if rule.get("rope_type") == "proportional":
        kept.pop("partial_rotary_factor", None)  # that rule's own
    own: dict[str, Any] = {"rope_type": rope_type}
    match rope_type:
        case "linear" | "dynamic":
            own |= {"factor": FACTOR}
        case "yarn":
            own |= {"factor": FACTOR, "original_max_position_embeddings": ORIGINAL}
        case "longrope":
            short = [1.0 + 0.05 * pair for pair in range(pairs)]
            own |= {"short_factor": short, "long_factor": [2.0 * one for one in short], "factor": FACTOR}
            own |= {"original_max_position_embeddings": ORIGINAL}
        case "llama3":
            own |= {"factor": FACTOR, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
            own |= {"original_max_position_embeddings": ORIGINAL}
        case "proportional":
            own |= {"partial_rotary_factor": min(0.5, rule.get("partial_rotary_factor") or 1.0)}
    return {**kept, **own}


def variants(family: Family, plain, rope_type: str) -> Iterator[Any]:
    """Configurations of `family` in which every rule of its model `plain` is of `rope_type`; where it has several
    rules, then those in which one of them is."""
    stated = getattr(plain.config, "rope_parameters", None)
    if not isinstance(stated, dict):
        return
    nested, pairs = [key for key, rule in stated.items() if isinstance(rule, dict)], _pairs(plain)
    for chosen in (nested, *([key] for key in nested if len(nested) > 1)):
        if nested:
            scaled_parameters = {key: scaled(rope_type, stated[key], pairs.get(key, 0)) for key in chosen}
            parameters = {**copy.deepcopy(stated), **scaled_parameters}
        else:
            parameters = scaled(rope_type, stated, pairs.get("", 0))
        settings = {**settings_of(family.name), "rope_parameters": parameters}
        if rope_type == "dynamic":  # it changes at the length that the configuration states
            settings["max_position_embeddings"] = ORIGINAL
        yield lambda settings=settings: tiny_config(family, settings)


def _pairs(model) -> dict[str, int]:
    """How many pairs each rule turns, by layer type ("" for the only rule)."""
    found = {}
    for name, buffer in model.named_buffers():
        last = name.rpartition(".")[2]
        if last.endswith("inv_freq") and "original" not in last:
            found[last.removesuffix("inv_freq").rstrip("_")] = buffer.shape[-1]
    return found


def judge_ropes(family: Family, types: Sequence[str], styles: Sequence[str], expected: int, work: Path) -> None:
    """Judge each of `types`; what is known so far lies in `work`/ropes.json as {type: result}."""
    plain = tiny_model(family)
    before, found = long_answer(plain), {}
    for rope_type in types:
        with tempfile.TemporaryDirectory(dir=work, ignore_cleanup_errors=True) as folder:
            found[rope_type] = _judge(family, plain, before, rope_type, styles, expected, Path(folder))
        (work / "ropes.json").write_text(json.dumps(found))


def _judge(family: Family, plain, before, rope_type: str, styles, expected: int, folder: Path) -> dict[str, Any]:
    model, reason = _obedient(family, plain, before, rope_type)
    if model is None:
        return {"verdict": "unaccepted", "reason": reason}
    model.save_pretrained(folder / "model")
    return judge_saved(folder, long_answer(model), SAME, long_answer, styles, expected)


def judge_saved(folder: Path, want, bound: float, answer: Callable, styles, expected: int) -> dict[str, Any]:
    """The verdict on `folder`/model: once loaded it gives `want` within `bound`, by `answer`, and its exports pass."""
    try:
        loaded = guarded(lambda: api.load(str(folder / "model")))
        if not float((answer(loaded.model) - want).abs().max()) <= bound:
            return {"verdict": "wrong", "reason": "The model as loaded differs from the one that was meant."}
        prepared = traced(loaded)
    except Stop as stop:
        return {"verdict": stop.verdict, "reason": stop.reason, "where": stop.where}
    return summed(list(in_styles(prepared, styles, folder / "exported", cases=CASES)), expected)


def _obedient(family: Family, plain, before, rope_type: str):
    """A model whose own code runs with `rope_type` and turns by it, and ""; or None and why there is none."""
    own = {str(rule.get("rope_type", "default")) for rule in rules(getattr(plain.config, "rope_parameters", None))}
    reason = "It states no rule."
    for config in variants(family, plain, rope_type):
        try:
            model = tiny_model(family, config=config())
            moved = float((long_answer(model) - before).abs().max())
        except Exception as error:  # transformers' code may raise anything
            reason = first_line(error)
            continue
        if moved > CHANGES or own == {rope_type}:
            return model, ""
        reason = "It takes no notice of it."
    return None, reason


def long_answer(model):
    """The logits of a text that is longer than any original context."""
    import torch

    with torch.no_grad():
        return first_tensor(model(**{"input_ids": text(1, LENGTH)["input_ids"]}))


def summed(results: Sequence[StyleResult], expected: int) -> dict[str, Any]:
    """The worst style's verdict and reason, and each style's."""
    for one in results:
        if one.verdict == "green" and one.sites != expected:
            one.verdict, one.reason = "sites", f"PyTorch rotates {expected} times, the graph {one.sites} times."
    bad = [one for one in results if one.verdict != "green"]
    return {
        "verdict": bad[0].verdict if bad else "green",
        "reason": f"{bad[0].style}: {bad[0].reason}" if bad else "",
        "styles": {one.style: one.verdict for one in results},
        "asked": results[0].passed + len(results[0].failed),
        "logits_error": max((one.logits_error for one in results if one.logits_error is not None), default=None),
    }
