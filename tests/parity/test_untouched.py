"""A mistake in what we replace in a model stands on both sides of a comparison; the model as it is shows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rope_deploy.artifact import load_manifest
from rope_deploy.export import prepare, write
from rope_deploy.models import patched, run_untouched
from rope_deploy.models.patches import attention_and_mask
from rope_deploy.models.reference.run_untouched import Piece
from rope_deploy.parity import check
from rope_deploy.parity.cases import QUICK, UNTOUCHED
from rope_deploy.runtimes import Memoized, open_ort, open_torch
from tests import tiny
from tests.sweep import swept


def outcome(folder, family, **options):
    """The quick set on an artifact that is exported with whatever is planted at the time."""
    loaded = tiny.loaded(family)
    write(prepare(loaded), folder, "tables")
    with open_ort(folder, taps=True) as tested, open_torch(loaded) as reference:
        return check(load_manifest(folder), Memoized(reference), tested, which="quick", **options)


def verdicts(found) -> dict[str, str]:
    return {record.case: record.verdict for record in found.records}


def too_sharp(module, query, key, value, attention_mask, scaling=None, **others):
    listener = attention_and_mask._listener.get()
    if listener is not None:
        listener(module, query, key)
    grouped = query.shape[1] != key.shape[1]
    scale = (query.shape[-1] ** -0.5 if scaling is None else scaling) * 1.05
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scale, enable_gqa=grouped)
    return out.transpose(1, 2), None


def sees_too_much(*args, **kwargs):
    """The mask of padding without that of order."""
    mask = original_mask(*args, **kwargs)
    return mask | torch.ones_like(mask).tril(1) & mask.any(dim=2, keepdim=True)


original_attend, original_mask = attention_and_mask.attend, attention_and_mask.explicit_mask


@pytest.mark.parametrize(
    ("name", "fault"), [("attend", too_sharp), ("explicit_mask", sees_too_much)], ids=["scale", "mask"]
)
@pytest.mark.parametrize("family", swept(["llama", "gemma3"], ["llama"]))
def test_a_fault_in_our_own_attention_fails_the_untouched_cases_alone(tmp_path, monkeypatch, family, name, fault):
    with monkeypatch.context() as planted:
        planted.setattr(attention_and_mask, name, fault)
        found = outcome(tmp_path / "artifact", family)
    failed = {case for case, verdict in verdicts(found).items() if verdict == "failed"}
    assert failed == set(UNTOUCHED)
    (message,) = {record.message.rpartition(". ")[2] for record in found.records if record.verdict == "failed"}
    assert message == "Compared with the model as transformers runs it."
    assert found.failed


@pytest.mark.parametrize("family", swept(["llama", "modernbert"], ["llama"]))
def test_a_sound_export_agrees_with_the_model_as_it_is(tmp_path, family):
    found = verdicts(outcome(tmp_path / "artifact", family))
    expected = UNTOUCHED if family == "llama" else UNTOUCHED[:2]
    assert {case: found.get(case) for case in UNTOUCHED if case in found} == dict.fromkeys(expected, "passed")
    assert set(UNTOUCHED) <= set(QUICK)


def test_nothing_of_ours_is_in_it():
    loaded = tiny.loaded("llama")
    with patched(loaded.model, "run"):
        assert loaded.model.config._attn_implementation == attention_and_mask.NAME
    assert loaded.untouched.config._attn_implementation in ("sdpa", "eager")
    ours, theirs = loaded.model.lm_head.weight, loaded.untouched.lm_head.weight
    assert ours.data_ptr() == theirs.data_ptr()
    dynamic = tiny.loaded("llama", rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    with patched(dynamic.model, "run"):
        assert "forward" in vars(dynamic.model.model.rotary_emb)
    assert "forward" not in vars(dynamic.untouched.model.rotary_emb)


def test_it_goes_on_from_a_cache_of_its_own_and_forgets_it():
    model = tiny.loaded("llama").untouched
    ids = np.arange(3, 13)[None]
    whole = run_untouched(model, [Piece(ids)])
    pieces = [Piece(ids[:, :7]), Piece(ids[:, 7:9]), Piece(ids[:, 9:])]
    for _ in range(2):
        assert np.abs(run_untouched(model, pieces) - whole[:, 9:]).max() < 1e-5
    assert np.abs(run_untouched(model, pieces[2:]) - whole[:, 9:]).max() > 1e-2  # the twin: without a past


@pytest.mark.slow
def test_without_pytorch_there_is_nothing_to_compare_with(tmp_path):
    loaded = tiny.loaded("llama")
    write(prepare(loaded), tmp_path / "artifact", "tables")
    manifest = load_manifest(tmp_path / "artifact")
    with open_ort(tmp_path / "artifact", taps=True) as tested:
        alone = check(manifest, None, tested, which="quick")
        asked = check(manifest, None, tested, only=UNTOUCHED[:1])
        loaded = type(loaded)(**{**vars(loaded), "untouched": None})
        with open_torch(loaded) as reference:
            copied = check(manifest, reference, tested, only=UNTOUCHED[:1])
    assert not set(UNTOUCHED) & set(verdicts(alone))
    for found in (asked, copied):
        assert verdicts(found)[UNTOUCHED[0]] == "skipped"
        assert found.records[0].message == "The model as transformers runs it cannot be had here."
