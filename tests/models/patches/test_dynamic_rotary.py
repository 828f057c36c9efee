"""Tracing and running leave no trace in the model: the same call has the same answer before and after."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rope_deploy.models import run_reference, trace
from rope_deploy.models.torch_private import FakeTensor
from tests import tiny
from tests.sweep import swept

DYNAMIC = {
    "max_position_embeddings": 32,
    "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0},
}
BY_TYPE = {
    "max_position_embeddings": 32,
    "rope_parameters": {
        "full_attention": DYNAMIC["rope_parameters"],
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    },
}
CASES = {
    "longrope": ("phi3", {}),
    "dynamic": ("llama", DYNAMIC),
    "dynamic in one layer type": ("gemma3", BY_TYPE),
    "sine table": ("gptj", {}),
}
CHANGING = ["longrope", "dynamic", "dynamic in one layer type"]
TRACED = [*((case, cache) for case in CHANGING for cache in (True, False)), ("sine table", True)]


def call(loaded, tokens: int) -> np.ndarray:
    ids = np.random.default_rng(tokens).integers(3, tiny.VOCAB, (1, tokens))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(tokens)[None]}
    return run_reference(loaded, feeds)["logits"]


def tensors(model: torch.nn.Module):
    """Every tensor a module holds, registered or not."""
    for name, module in model.named_modules():
        for key, value in {**vars(module), **module._buffers, **module._parameters}.items():
            if isinstance(value, torch.Tensor):
                yield f"{name}.{key}", value


@pytest.mark.slow
@pytest.mark.parametrize(("case", "cache"), swept(TRACED, ["longrope"]))
def test_tracing_leaves_the_model_as_it_was(case, cache):
    family, settings = CASES[case]
    fresh, loaded = (tiny.loaded(family, **settings) for _ in range(2))
    trace(loaded, cache=cache)
    assert not [name for name, value in tensors(loaded.model) if isinstance(value, FakeTensor)]
    for tokens in (5, 40, 5):  # below, above and again below the threshold
        assert np.array_equal(call(loaded, tokens), call(fresh, tokens)), tokens


@pytest.mark.parametrize("case", CHANGING)
def test_a_long_call_does_not_change_the_short_one_after_it(case):
    family, settings = CASES[case]
    loaded = tiny.loaded(family, **settings)
    before = call(loaded, 5)
    long = call(loaded, 40)
    assert np.array_equal(call(loaded, 5), before)
    assert np.array_equal(call(loaded, 40), long)


def test_the_rule_does_change_above_its_threshold():
    """The twin: where the rule looks at the length, a longer call changes what came before in it."""
    for family, settings in (CASES[case] for case in CHANGING):
        assert changes(tiny.loaded(family, **settings)) > 1e-3
    assert changes(tiny.loaded("llama")) < 1e-4


def changes(loaded) -> float:
    """How far the answer to five tokens moves when the call goes on behind them."""
    ids = np.random.default_rng(0).integers(3, tiny.VOCAB, (1, 40))
    answers = []
    for tokens in (5, 40):
        feeds = {"input_ids": ids[:, :tokens], "position_ids": np.arange(tokens)[None]}
        feeds["attention_mask"] = np.ones_like(feeds["input_ids"])
        answers.append(run_reference(loaded, feeds)["logits"][:, :5])
    return float(np.abs(answers[0] - answers[1]).max())
