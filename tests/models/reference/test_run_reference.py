"""The reference gives transformers' own answers under the artifact's names; taps record what enters the attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rope_deploy.models import load_model, run_reference
from rope_deploy.rope import rotate, tables
from tests import tiny


def feeds(tokens: int = 6, *, batch: int = 2, stride: int = 1, vocabulary: int = tiny.VOCAB) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(0).integers(3, vocabulary, (batch, tokens))
    mask = np.ones_like(ids)
    mask[1:, : tokens // 3] = 0
    return {"input_ids": ids, "attention_mask": mask, "position_ids": np.arange(tokens)[None].repeat(batch, 0) * stride}


def stock(family: str, given: dict[str, np.ndarray]) -> np.ndarray:
    """transformers alone, its attention spelled out."""
    model = tiny.build(family)
    model.set_attn_implementation("eager")
    tensors = {name: torch.from_numpy(value) for name, value in given.items()}
    with torch.no_grad():
        return model(**tensors)[0].numpy()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_its_attention_changes_no_answer(family):
    given = feeds()
    result = run_reference(tiny.loaded(family), given)
    mine = result["last_hidden_state" if family == "modernbert_bare" else "logits"]
    real = given["attention_mask"] == 1
    assert np.abs(mine - stock(family, given))[real].max() < 2e-5
    elsewhere = stock(family, feeds(stride=3))  # the twin
    assert np.abs(mine - elsewhere)[real].max() > 0.05


@pytest.mark.parametrize("family", ["llama", "gemma3", "gptj"])
def test_a_prompt_in_parts_is_the_prompt(family):
    loaded, given = tiny.loaded(family), feeds(12, batch=1)
    whole = run_reference(loaded, given)["logits"]
    first = run_reference(loaded, {name: value[:, :7] for name, value in given.items()})
    past = {name.replace("present.", "past_key_values."): value for name, value in first.items() if name != "logits"}
    rest = {name: value[:, 7:] for name, value in given.items() if name != "attention_mask"}
    second = run_reference(loaded, {**rest, **past, "attention_mask": given["attention_mask"]})["logits"]
    assert np.abs(second - whole[:, 7:]).max() < 2e-5
    without = run_reference(loaded, {**rest, "attention_mask": given["attention_mask"][:, 7:]})["logits"]  # the twin
    assert np.abs(without - whole[:, 7:]).max() > 0.05


@pytest.mark.parametrize("family", ["llama", "qwen3", "glm", "gptj", "gpt_neox"])
def test_taps_record_every_layer_rotated_by_the_stated_rule(family):
    """Undoing the rotation gives what the same tokens have at position 0."""
    loaded = tiny.loaded(family)
    given = feeds()
    here = run_reference(loaded, given, taps=True)
    origin = run_reference(loaded, {**given, "position_ids": np.zeros_like(given["position_ids"])}, taps=True)
    spec = loaded.specs[""]
    cos, sin = (table[:6] for table in tables(spec, 6))
    assert {name for name in here if name.startswith("rotated.")} == {
        f"rotated.{layer}.{role}" for layer in range(2) for role in "qk"
    }
    for role in "qk":  # the first layer alone sees the same tokens in both
        turned = rotate(origin[f"rotated.0.{role}"], cos, sin, interleaved=spec.interleaved)
        assert np.abs(turned - here[f"rotated.0.{role}"]).max() < 1e-5
        other = rotate(origin[f"rotated.0.{role}"], cos, sin, interleaved=not spec.interleaved)  # the twin
        assert np.abs(other - here[f"rotated.0.{role}"]).max() > 0.05


def test_taps_of_a_step_hold_the_new_rows_alone():
    loaded, given = tiny.loaded("llama"), feeds(6, batch=1)
    first = run_reference(loaded, given)
    step = {
        "input_ids": np.array([[9]]),
        "position_ids": np.array([[6]]),
        "attention_mask": np.ones((1, 7), np.int64),
        **{n.replace("present.", "past_key_values."): v for n, v in first.items() if n.startswith("present.")},
    }
    seen = run_reference(loaded, step, taps=True)
    assert seen["rotated.0.k"].shape == (1, 2, 1, 16)
    assert np.array_equal(seen["rotated.0.k"], seen["present.0.key"][:, :, -1:])


def test_a_tap_leaves_nothing_behind():
    loaded = tiny.loaded("gptj")
    run_reference(loaded, feeds(), taps=True)
    assert not any("_attn" in vars(module) for module in loaded.model.modules())
    assert not any(name.startswith("rotated") for name in run_reference(loaded, feeds()))


def test_half_types_come_back_as_float32_and_take_float32_pasts():
    loaded, given = tiny.loaded("llama", dtype="bfloat16"), feeds(4, batch=1)
    first = run_reference(loaded, given, taps=True)
    assert {value.dtype for value in first.values()} == {np.dtype(np.float32)}
    past = {n.replace("present.", "past_key_values."): v for n, v in first.items() if n.startswith("present.")}
    step = {"input_ids": np.array([[9]]), "position_ids": np.array([[4]]), "attention_mask": np.ones((1, 5), np.int64)}
    assert run_reference(loaded, {**step, **past})["present.0.key"].shape == (1, 2, 5, 16)


def test_a_plain_module_answers_with_its_one_tensor():
    loaded = load_model("tests.models.plain:plain")
    given = feeds(vocabulary=61)
    result = run_reference(loaded, given)
    assert list(result) == ["logits"]
    tensors = {name: torch.from_numpy(value) for name, value in given.items()}
    assert np.array_equal(result["logits"], loaded.model(**tensors).detach().numpy())
