"""Tracing and running leave no trace in the model: the same call has the same answer before and after."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensor

from rope_deploy.models import run_reference, trace
from rope_deploy.models.patches.stateless_rotary import make_stateless, unchanged
from tests import tiny

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


@pytest.mark.parametrize(("case", "cache"), TRACED)
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


class Forgetful(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.zeros(1))
        self.length = 0


def test_what_a_module_sets_on_itself_is_undone_even_after_a_failure():
    module = Forgetful()
    table = module.table
    with pytest.raises(RuntimeError), unchanged(module):
        module.length, module.extra = 7, torch.ones(1)
        module.register_buffer("table", torch.ones(1))
        module.register_buffer("more", torch.ones(1))
        raise RuntimeError
    assert module.length == 0
    assert module.table is table
    assert not hasattr(module, "extra")
    assert not hasattr(module, "more")


def test_two_factors_are_chosen_by_the_length_without_python():
    """Phi-3.5-MoE's own module branches on it, which no tracer follows."""
    from transformers import PhimoeConfig
    from transformers.models.phimoe.modeling_phimoe import PhimoeRotaryEmbedding

    rule = {"rope_type": "longrope", "rope_theta": 10_000.0, "original_max_position_embeddings": 32}
    rule |= {"short_factor": [1.0 + 0.1 * n for n in range(8)], "long_factor": [2.0 + n for n in range(8)]}
    rule |= {"short_mscale": 1.25, "long_mscale": 1.5}
    config = PhimoeConfig(
        hidden_size=64, num_attention_heads=4, max_position_embeddings=128, rope_parameters=rule,
        original_max_position_embeddings=32,
    )  # fmt: skip
    own, ours = PhimoeRotaryEmbedding(config), PhimoeRotaryEmbedding(config)
    assert make_stateless(ours) == 1
    lengths = {}
    for tokens in (5, 32, 33, 40, 5):
        given = torch.zeros(1), torch.arange(tokens)[None]
        for mine, theirs in zip(ours(*given), own(*given), strict=True):
            assert torch.equal(mine, theirs), tokens
        lengths[tokens] = float(ours(*given)[0][0, 0, 0])
    assert lengths == {5: 1.25, 32: 1.25, 33: 1.5, 40: 1.5}
    assert make_stateless(PhimoeRotaryEmbedding(PhimoeConfig(hidden_size=64, num_attention_heads=4))) == 0
