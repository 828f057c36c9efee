"""The truth that runs are measured by: the weights, each as it is, in wider arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rope_deploy.models import Exact, run_reference, wrap
from rope_deploy.models.reference.wider_type import NoNarrowing
from tests import tiny
from tests.models.reference.test_run_reference import feeds


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "gptj"])
def test_it_is_the_half_weights_in_float32(family, dtype):
    loaded, given = tiny.loaded(family, dtype=dtype), feeds()
    wide = tiny.build(family)
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.copy_(parameter.to(getattr(torch, dtype)))
    want = run_reference(wrap(wide, tiny.plain_config(wide), source="wide"), given, taps=True)
    got = Exact(loaded)(given, taps=True)
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)
    half = run_reference(loaded, given, taps=True)
    assert np.abs(half["logits"] - want["logits"]).max() > 1e-4


def test_the_model_is_as_it_was():
    loaded, given = tiny.loaded("llama", dtype="float16"), feeds()
    loaded.model.config.dtype = torch.float16
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    answer = run_reference(loaded, given)["logits"]
    exact = Exact(loaded)
    for _ in range(2):
        exact(given)
    after = loaded.model.state_dict()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    assert loaded.model.config.dtype == torch.float16
    np.testing.assert_array_equal(run_reference(loaded, given)["logits"], answer)


def test_it_is_as_it_was_after_a_failure_too():
    loaded = tiny.loaded("llama", dtype="float16")
    with pytest.raises(Exception):  # noqa: B017  whatever PyTorch says of it
        Exact(loaded)({"input_ids": np.zeros((1, 3), np.float32)})
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float16}


def test_tied_weights_stay_tied():
    loaded = tiny.loaded("smollm2", dtype="float16")
    Exact(loaded)(feeds())
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight


@pytest.mark.parametrize("family", ["llama", "gemma3", "gptj"])
def test_float32_becomes_float64_also_where_a_model_asks_for_float32(family):
    """A norm in float32 would leave its rounding in the truth."""
    loaded, given = tiny.loaded(family), feeds()
    truth, single = Exact(loaded)(given, taps=True), run_reference(loaded, given, taps=True)
    assert truth.keys() == single.keys()
    for name, value in truth.items():
        assert value.dtype == np.float64, name
        np.testing.assert_allclose(value, single[name], atol=1e-4, err_msg=name)
    assert np.abs(truth["logits"] - single["logits"]).max() > 1e-8
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    # One weight a float64 step away: the answer moves by as little, and would not at all through float32.
    with torch.no_grad():
        wide = Exact(loaded)
        wide(given)
        weight = loaded.model.get_input_embeddings().weight
        wide._wide._copies[id(weight)][:, 0] += 1e-12
    moved = np.abs(wide(given)["logits"] - truth["logits"]).max()
    assert 1e-14 < moved < 1e-9


def test_angles_stay_as_the_model_rounds_them():
    """The graph's tables repeat them, so a difference there is nobody's error."""
    loaded, given = tiny.loaded("llama"), feeds()
    truth = Exact(loaded)(given, taps=True)
    cos, sin = loaded.model.model.rotary_emb(torch.zeros(1), torch.from_numpy(given["position_ids"]))
    x = truth["unrotated.0.q"]
    half = x.shape[-1] // 2
    turned = np.concatenate([-x[..., half:], x[..., :half]], axis=-1)
    want = x * cos.double().numpy()[:, None] + turned * sin.double().numpy()[:, None]
    np.testing.assert_allclose(truth["rotated.0.q"], want, atol=1e-14)


def test_where_there_is_no_room_memory_is_said_to_have_run_out(monkeypatch):
    from rope_deploy.models.reference import wider_type

    monkeypatch.setattr(wider_type.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    with pytest.raises(MemoryError):
        Exact(tiny.loaded("llama"))(feeds())


def test_a_tensor_that_is_written_to_keeps_its_type():
    wide, kept = torch.full((3,), 1 + 1e-12, dtype=torch.float64), torch.zeros(3)
    with NoNarrowing():
        assert (wide.float() + torch.ones(3)).dtype == torch.float64
        kept.index_put_((torch.tensor([0, 2]),), wide[:2])
        kept[1] = wide[1]
    assert kept.dtype == torch.float32 and kept.tolist() == [1.0, 1.0, 1.0]
