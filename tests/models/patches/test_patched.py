"""Patches are in place inside a block and nowhere else; one whose target has changed says so."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
import transformers as hf
from transformers.models.mixtral.modeling_mixtral import MixtralExperts
from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaRecurrentBlock

from rope_deploy.errors import EnvironmentMissing, InternalFault
from rope_deploy.models import patched, run_untouched, torch_private, transformers_private
from rope_deploy.models.module_tree import python_modules
from rope_deploy.models.patches import attention_and_mask
from rope_deploy.models.patches.all_patches import PATCHES
from rope_deploy.models.patches.patched import patches_in
from rope_deploy.models.reference.run_untouched import Piece
from tests import tiny, towers
from tests.models.patches.test_dense_experts import FAMILIES as EXPERTS
from tests.models.patches.test_recurrent_scans import FAMILIES as RECURRENT

DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}


def made(family: tuple) -> torch.nn.Module:
    model_class, config_class, settings = family
    return tiny.fresh(model_class, config_class(**settings))


# How to build each, the patches that apply to it, and what of it is ours while they are in place.
SETTING = "_attn_implementation_internal"
MODELS = {
    "llama": (
        lambda: tiny.build("llama", rope_parameters=DYNAMIC),
        {"own-attention", "dynamic-rotary"},
        {"model.rotary_emb.forward", f"LlamaConfig.{SETTING}"},
    ),
    "gptj": (lambda: tiny.build("gptj"), {"eager-attention"}, {f"GPTJConfig.{SETTING}"}),
    "gpt_oss": (
        lambda: made(EXPERTS["gpt_oss"]),
        {"eager-attention", "dense-experts"},
        {*(f"model.layers.{n}.mlp.experts.forward" for n in range(2)), f"GptOssConfig.{SETTING}"},
    ),
    "qwen3_next": (
        lambda: made(RECURRENT["qwen3_next"]),
        {"eager-attention", "dense-experts", "recurrent-scans"},
        {
            *(f"model.layers.{n}.mlp.experts.forward" for n in range(2)),
            "transformers.models.qwen3_next.modeling_qwen3_next.torch_chunk_gated_delta_rule",
            f"Qwen3NextConfig.{SETTING}",
        },
    ),
    "recurrent_gemma": (
        lambda: made(RECURRENT["recurrent_gemma"]),
        {"own-attention", "griffin-states", "recurrent-scans"},
        {
            *(f"model.layers.0.temporal_block.{name}" for name in ("forward", "rg_lru._rnn_scan")),
            f"RecurrentGemmaConfig.{SETTING}",
        },
    ),
    "llama4": (lambda: towers.build("llama4"), {"own-attention"}, {f"Llama4VisionConfig.{SETTING}"}),
}


def state(model: torch.nn.Module) -> Iterator[tuple[Any, Any]]:
    """Whatever a patch could change, by name: attributes of modules, configurations, functions, registries."""
    for path, part in model.named_modules():
        for owner in (vars(part), part._buffers, part._parameters, part._modules):
            yield from ((f"{path}.{name}", value) for name, value in owner.items())
        if isinstance(part, hf.PreTrainedModel):
            yield f"{path}.attention", part.config._attn_implementation
    for module in (*python_modules(model), gguf, hf.masking_utils, hf.modeling_utils, torch, torch.nn.functional):
        yield from ((f"{module.__name__}.{name}", value) for name, value in vars(module).items())
    for mapping in (transformers_private.ATTENTIONS, transformers_private.MASKS):
        yield from mapping.items()
    yield "deterministic", torch.are_deterministic_algorithms_enabled()
    yield "fill", torch.utils.deterministic.fill_uninitialized_memory


def same(before: list, after: list) -> bool:
    return [name for name, _ in before] == [name for name, _ in after] and all(
        one is other for (_, one), (_, other) in zip(before, after, strict=True)
    )


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_left_behind_even_after_a_failure(name):
    build, expected, ours = MODELS[name]
    model = build()
    before = list(state(model))
    with (
        pytest.raises(ZeroDivisionError),
        patched(None, "load"),
        patched(None, "weights"),
        patched(None, "make"),
        patched(model, "run") as run,
        patched(model, "trace") as trace,
    ):
        assert not same(before, list(state(model)))
        assert sorted(patches_in(model)) == sorted(ours)
        assert {*run, *trace} == expected
        raise ZeroDivisionError
    assert same(before, list(state(model)))
    assert not patches_in(model)


def test_blocks_may_overlap_in_any_order():
    models = [tiny.build("llama", rope_parameters=DYNAMIC) for _ in range(2)]
    before = [list(state(model)) for model in models]
    blocks = [patched(model, "run") for model in (*models, models[0])]
    names = [block.__enter__() for block in blocks]
    assert names == [("own-attention", "dynamic-rotary")] * 3
    blocks[0].__exit__(None, None, None)
    both = ["model.rotary_emb.forward", f"LlamaConfig.{SETTING}"]
    assert patches_in(models[0]) == patches_in(models[1]) == both
    blocks[2].__exit__(None, None, None)
    assert not patches_in(models[0])
    assert patches_in(models[1]) == both and attention_and_mask.NAME in transformers_private.ATTENTIONS
    blocks[1].__exit__(None, None, None)
    for model, was in zip(models, before, strict=True):
        assert same(was, list(state(model)))


def test_every_patch_states_what_it_is():
    assert len({patch.name for patch in PATCHES}) == len(PATCHES)
    for patch in PATCHES:
        assert patch.target and patch.reason.endswith("."), patch.name
        assert all(len(one.split()) == 2 for one in patch.versions) and patch.versions, patch.name


def other_names(self, hidden_states, chosen, weights): ...


def another_argument(self, hidden_states, top_k_index, top_k_weights, capacity): ...


def no_cache(self, activations, position_ids): ...


@pytest.mark.parametrize(
    ("owner", "changed", "family"),
    [
        (MixtralExperts, other_names, EXPERTS["mixtral"]),
        (MixtralExperts, another_argument, EXPERTS["mixtral"]),
        (RecurrentGemmaRecurrentBlock, no_cache, RECURRENT["recurrent_gemma"]),
    ],
)
def test_a_target_that_has_changed_is_refused(monkeypatch, owner, changed, family):
    model = made(family)
    monkeypatch.setattr(owner, "forward", changed)
    before = list(state(model))
    message = f"does not fit: {owner.__name__}.forward"
    with pytest.raises(EnvironmentMissing, match=message) as caught, patched(model, "run"), patched(model, "trace"):
        pass
    assert "It was written for transformers 5.23" in caught.value.exists
    assert same(before, list(state(model)))


def test_a_mask_that_has_changed_is_refused(monkeypatch):
    monkeypatch.setattr(attention_and_mask, "sdpa_mask", lambda batch_size, q_length, kv_length: None)
    with pytest.raises(EnvironmentMissing, match="sdpa_mask does not take"), patched(tiny.build("llama"), "run"):
        pass


def test_a_model_that_no_patch_may_touch_is_not_run_with_one():
    loaded, piece = tiny.loaded("llama"), Piece(torch.arange(3, 9)[None].numpy())
    assert run_untouched(loaded.untouched, [piece]).shape == (1, 6, tiny.VOCAB)
    with patched(loaded.model, "run"):
        run_untouched(loaded.untouched, [piece])  # the other model's patches are not in it
    with (
        patched(loaded.untouched, "run"),
        pytest.raises(InternalFault, match=r"Patches are in place .*: LlamaConfig\._attn"),
    ):
        run_untouched(loaded.untouched, [piece])


@pytest.mark.parametrize(
    ("module", "home", "name"),
    [
        (torch_private, "torch.utils._pytree", "tree_any"),
        (transformers_private, "transformers.cache_utils", "DYNAMIC_LAYER_TYPE_MAPPING"),
    ],
)
def test_a_private_name_that_is_gone_is_named(monkeypatch, module, home, name):
    monkeypatch.delattr(sys.modules[home], name)
    spec = importlib.util.spec_from_file_location("again", Path(module.__file__))
    with pytest.raises(EnvironmentMissing, match=name) as caught:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert f"{module.SEEN_IN}." in caught.value.exists
