"""Real models whose rule depends on the length: below, at and above the threshold, prefill and decode."""

from functools import cache

import numpy as np
import pytest
import torch

from rope_deploy.export import prepare
from rope_deploy.graph.lower.lower_rotations import lower_rotations
from rope_deploy.models import run_reference
from rope_deploy.options import ExportOptions
from rope_deploy.styles import STYLES
from tests import tiny
from tests.graph.graphs import session
from tests.sweep import swept

ORIGINAL, ROWS = 16, 64
THETA = {"rope_theta": 10_000.0}
STRETCHED = {**THETA, "factor": 4.0, "original_max_position_embeddings": ORIGINAL}
RULES = {
    "dynamic": ("qwen2", ORIGINAL, {**THETA, "rope_type": "dynamic", "factor": 4.0}, "computed"),
    "longrope": ("phi3", ROWS, {**tiny.LONGROPE, "original_max_position_embeddings": ORIGINAL}, "two-tables"),
    "yarn": ("qwen2", ROWS, {**STRETCHED, "rope_type": "yarn"}, "table"),
    "linear": ("qwen2", ROWS, {**THETA, "rope_type": "linear", "factor": 4.0}, "table"),
    "llama3": (
        "qwen2",
        ROWS,
        {**STRETCHED, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        "table",
    ),
}


def settings(rule: str) -> tuple[str, dict]:
    family, longest, parameters, _ = RULES[rule]
    extra = {"original_max_position_embeddings": ORIGINAL} if rule == "longrope" else {}
    return family, {
        "num_hidden_layers": 1,
        "max_position_embeddings": longest,
        "rope_parameters": dict(parameters),
        **extra,
    }


@cache
def prepared(rule: str):
    family, given = settings(rule)
    return prepare(tiny.loaded(family, **given), ExportOptions(max_position=ROWS))


@cache
def session_of(rule: str, style: str):
    return session(lower_rotations(prepared(rule).raised, style, fused_attention=False).model)


def feeds(past: int, new: int, batch: int = 2) -> dict[str, np.ndarray]:
    return {
        "input_ids": np.random.default_rng(past + new).integers(3, tiny.VOCAB, (batch, new)),
        "attention_mask": np.ones((batch, past + new), np.int64),
        "position_ids": np.tile(np.arange(past, past + new), (batch, 1)),
    }


def both(rule: str, style: str, given: dict, past: dict) -> tuple[dict, dict]:
    """(graph, PyTorch) on the same call."""
    runner, loaded = session_of(rule, style), prepared(rule).loaded
    cached = {}
    for value in runner.get_inputs():
        if value.name.startswith("past"):
            empty = np.zeros((len(given["input_ids"]), value.shape[1], 0, value.shape[3]), np.float32)
            cached[value.name] = past.get(value.name.replace("past_key_values", "present"), empty)
    names = [output.name for output in runner.get_outputs()]
    return dict(zip(names, runner.run(None, {**given, **cached}), strict=True)), run_reference(
        loaded, {**given, **cached}
    )


@pytest.mark.parametrize("rule", swept(RULES, ["dynamic"]))
def test_each_rule_gets_the_kind_of_table_it_needs(rule):
    (rotation,) = prepared(rule).raised.rotations
    assert rotation.table.kind == RULES[rule][3]
    if rotation.table.kind != "table":
        assert rotation.table.original == ORIGINAL
    assert not prepared(rule).findings, "the tables follow the rule in the configuration"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("rule", RULES)
def test_prefill_and_decode_equal_pytorch_across_the_threshold(rule, style):
    for length in (ORIGINAL - 2, ORIGINAL - 1, ORIGINAL, ORIGINAL + 1, ROWS - 2):
        mine, theirs = both(rule, style, feeds(0, length), {})
        np.testing.assert_allclose(mine["logits"], theirs["logits"], atol=1e-4)
        for step in range(2):
            mine, theirs = both(rule, style, feeds(length + step, 1), theirs)
            np.testing.assert_allclose(mine["logits"], theirs["logits"], atol=1e-4)
            np.testing.assert_allclose(mine["present.0.key"], theirs["present.0.key"], atol=1e-4)


@pytest.mark.parametrize("rule", ["dynamic", "longrope"])
def test_the_reference_itself_is_what_transformers_computes(rule):
    """A model that nobody prepared, on first prompts below and above the threshold."""
    family, given = settings(rule)
    for length in (ORIGINAL, ORIGINAL + 9):
        untouched, call = tiny.build(family, **given), feeds(0, length)
        with torch.no_grad():
            expected = untouched(**{name: torch.from_numpy(array) for name, array in call.items()}).logits.numpy()
        np.testing.assert_allclose(run_reference(prepared(rule).loaded, call)["logits"], expected, atol=1e-4)


@pytest.mark.parametrize("rule", ["dynamic", "longrope"])
def test_the_comparison_would_see_a_rule_that_forgot_to_switch(rule):
    """A first prompt above the threshold, against the same with the unscaled frequencies."""
    family, given = settings(rule)
    call = feeds(0, ORIGINAL + 9)
    given["rope_parameters"] = {**THETA, "rope_type": "default"}
    if rule == "longrope":  # both states of Phi-3 scale; the short one is what a frozen graph would keep
        given["rope_parameters"] = {**tiny.LONGROPE, "original_max_position_embeddings": ORIGINAL}
        given["rope_parameters"]["long_factor"] = given["rope_parameters"]["short_factor"]
    frozen = run_reference(tiny.loaded(family, **given), call)["logits"]
    mine, _ = both(rule, "tables", call, {})
    assert np.abs(mine["logits"] - frozen).max() > 1e-2
