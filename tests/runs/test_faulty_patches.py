"""A mistake in what we replace in a model fails a check, although graph and reference share it."""

from __future__ import annotations

import pytest
import torch

from rope_deploy import api
from rope_deploy.artifact import load_manifest
from rope_deploy.models import wrap
from rope_deploy.models.patches import attention_and_mask, dense_experts
from rope_deploy.parity import cases_for
from rope_deploy.parity.cases import QUICK, UNTOUCHED, UNTOUCHED_CHUNKED
from tests import tiny, towers
from tests.models.patches.test_dense_experts import FAMILIES as EXPERTS
from tests.models.patches.test_recurrent_scans import FAMILIES as RECURRENT
from tests.sweep import swept

SOUND_MASK, SOUND_WEIGHTS = attention_and_mask.explicit_mask, dense_experts._weights
SHARED = ("prefill", "decode", "chunked-prefill")  # in which graph and reference share what we replace
AS_IT_IS = (*UNTOUCHED, UNTOUCHED_CHUNKED)
CASES = (*SHARED, *AS_IT_IS)


def rows_and_columns(q_length, kv_length, q_offset, device):
    return torch.arange(q_length, device=device)[:, None] + q_offset, torch.arange(kv_length, device=device)


def hides_the_first_key(batch_size, q_length, kv_length, q_offset=0, kv_offset=0, **others):
    """From every query but the first."""
    mask = SOUND_MASK(batch_size, q_length, kv_length, q_offset, kv_offset, **others)
    rows, columns = rows_and_columns(q_length, kv_length, q_offset, mask.device)
    return mask & ((columns > 0) | (rows == 0))


def shows_a_later_key(batch_size, q_length, kv_length, q_offset=0, kv_offset=0, **others):
    """Key 3 to query 2."""
    mask = SOUND_MASK(batch_size, q_length, kv_length, q_offset, kv_offset, **others)
    rows, columns = rows_and_columns(q_length, kv_length, q_offset, mask.device)
    return mask | ((rows == 2) & (columns == 3))


def hides_a_past_key(batch_size, q_length, kv_length, q_offset=0, kv_offset=0, **others):
    """The last key of the past, from the second of several new tokens."""
    mask = SOUND_MASK(batch_size, q_length, kv_length, q_offset, kv_offset, **others)
    rows, columns = rows_and_columns(q_length, kv_length, q_offset, mask.device)
    first = rows[:1]
    return mask & ~((first > 0) & (rows == first + 1) & (columns == first - 1))


def drops_the_last_expert(top_k_index, top_k_weights, experts):
    weights = SOUND_WEIGHTS(top_k_index, top_k_weights, experts)
    return torch.cat([weights[:-1], torch.zeros_like(weights[-1:])])


def verdicts(loaded, folder, only=CASES, style="tables") -> dict[str, str]:
    api.export(loaded, folder, styles=(style,))
    report = api.check(folder, model=loaded, cases=only, isolated=False)
    return {record.case: record.verdict for record in report.checks}


def of(family) -> object:
    model_class, config_class, settings = family
    model = tiny.fresh(model_class, config_class(**settings))
    return wrap(model, tiny.plain_config(model), source=model.config.model_type)


@pytest.mark.parametrize(
    ("family", "fault", "failed"),
    [
        ("llama", hides_the_first_key, AS_IT_IS),
        pytest.param("mistral", shows_a_later_key, AS_IT_IS, marks=pytest.mark.sweep),
        pytest.param("llama", hides_a_past_key, (UNTOUCHED_CHUNKED,), marks=pytest.mark.sweep),
        pytest.param("mistral", hides_a_past_key, (UNTOUCHED_CHUNKED,), marks=pytest.mark.sweep),
    ],
)
def test_a_mask_that_is_wrong_in_one_entry_fails_the_check(tmp_path, monkeypatch, family, fault, failed):
    monkeypatch.setattr(attention_and_mask, "explicit_mask", fault)
    found = verdicts(tiny.loaded(family), tmp_path / "artifact")
    assert {found[case] for case in SHARED} == {"passed"}, "graph and reference share the mistake"
    assert {case for case in AS_IT_IS if found[case] == "failed"} == set(failed)


@pytest.mark.parametrize("style", swept(["tables", "contrib"], ["tables"]))
@pytest.mark.parametrize("family", swept(["llama", "mistral", "gemma3", "phi3"], ["llama"]))
def test_several_tokens_after_a_past_agree_with_the_model_as_it_is(tmp_path, family, style):
    found = verdicts(tiny.loaded(family), tmp_path / "artifact", (UNTOUCHED_CHUNKED,), style)
    assert found[UNTOUCHED_CHUNKED] == "passed"


@pytest.mark.slow
def test_a_dense_layer_that_drops_an_expert_fails_the_check(tmp_path, monkeypatch):
    monkeypatch.setattr(dense_experts, "_weights", drops_the_last_expert)
    found = verdicts(of(EXPERTS["mixtral"]), tmp_path / "artifact")
    assert {found[case] for case in AS_IT_IS} == {"failed"}


KINDS = {
    "sliding window": lambda: tiny.loaded("gemma3"),
    "experts": lambda: of(EXPERTS["mixtral"]),
    "hybrid": lambda: of(RECURRENT["qwen3_next"]),
    "eager attention": lambda: of(EXPERTS["gpt_oss"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", swept(KINDS, ["experts"]))
def test_a_sound_export_of_every_kind_agrees_with_the_model_as_it_is(tmp_path, kind):
    assert set(UNTOUCHED) <= set(QUICK)
    loaded = KINDS[kind]()
    found = verdicts(loaded, tmp_path / "artifact", UNTOUCHED)
    assert {found[case] for case in UNTOUCHED} == {"passed"}
    manifest = load_manifest(tmp_path / "artifact")
    assert manifest.patches
    assert (UNTOUCHED_CHUNKED in {case.id for case in cases_for(manifest)}) == (kind != "hybrid"), "it keeps states"


@pytest.mark.slow
def test_an_encoder_has_no_decode(tmp_path):
    found = verdicts(tiny.loaded("modernbert"), tmp_path / "artifact", UNTOUCHED[:2])
    assert {found[case] for case in UNTOUCHED[:2]} == {"passed"}
    cases = {case.id for case in cases_for(load_manifest(tmp_path / "artifact"))}
    assert cases & set(AS_IT_IS) == set(UNTOUCHED[:2])


SOUND_ATTENTION = attention_and_mask.attend


def too_sharp(module, query, *others, **named):
    return SOUND_ATTENTION(module, query * 1.1, *others, **named)


@pytest.mark.slow
def test_a_tower_is_compared_with_the_model_as_it_is(tmp_path, monkeypatch):
    assert verdicts(towers.loaded("dinov3"), tmp_path / "sound", ("untouched",))["untouched"] == "passed"
    monkeypatch.setattr(attention_and_mask, "attend", too_sharp)
    found = verdicts(towers.loaded("dinov3"), tmp_path / "wrong", ("example", "untouched"))
    assert (found["example"], found["untouched"]) == ("passed", "failed")
