"""Fused attention against the decomposed one: prefill, decode, padding, windows; and what it must not take."""

from functools import cache

import numpy as np
import pytest

from rope_deploy.export import prepare
from rope_deploy.graph.lower import group_query_attention as fused_attention
from rope_deploy.graph.lower.lower_rotations import Lowered, lower_rotations
from tests import tiny
from tests.graph.graphs import session


@cache
def prepared(family: str):
    return prepare(tiny.loaded(family, num_hidden_layers=1))


@cache
def both(family: str) -> tuple[Lowered, Lowered]:
    raised = prepared(family).raised
    return lower_rotations(raised, "contrib"), lower_rotations(raised, "contrib", fused_attention=False)


@cache
def session_of(family: str, fused: bool):
    return session(both(family)[0 if fused else 1].model)


def run(family: str, fused: bool, mask: np.ndarray, new: int, past: dict) -> dict[str, np.ndarray]:
    """Run the last `new` columns of `mask` after `past`; positions count real tokens."""
    runner = session_of(family, fused)
    batch, total = mask.shape
    ids = np.random.default_rng(total).integers(3, tiny.VOCAB, (batch, new))
    positions = np.maximum(mask.cumsum(axis=1) - 1, 0)[:, total - new :]
    feeds = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    for value in runner.get_inputs():
        if value.name.startswith("past"):
            shape = [batch if axis == "batch" else 0 if isinstance(axis, str) else axis for axis in value.shape]
            feeds[value.name] = past.get(value.name.replace("past_key_values", "present"), np.zeros(shape, np.float32))
    return dict(zip([o.name for o in runner.get_outputs()], runner.run(None, feeds), strict=True))


FAMILIES = ["llama", "mistral"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_attention_is_fused_and_takes_its_rotation_along(family):
    fused, apart = both(family)
    operators = [node.op_type for node in fused.model.graph]
    assert operators.count("GroupQueryAttention") == 1
    assert not {"RotaryEmbedding", "Softmax"} & set(operators)
    assert fused.fused and not apart.fused
    assert "GroupQueryAttention" not in [node.op_type for node in apart.model.graph]
    assert [site.output for site in fused.sites] == [None] * 2


@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_decode_and_a_chunk_agree(family):
    results = {}
    for fused in (True, False):
        past, seen = {}, []
        for new, total in ((13, 13), (1, 14), (1, 15), (4, 19)):  # beyond mistral's window of 8
            past = run(family, fused, np.ones((1, total), np.int64), new, past)
            seen.append(past["logits"])
        results[fused] = seen, past
    for one, other in zip(results[True][0], results[False][0], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
        assert np.abs(one).max() > 0.5, "there is something to compare"
    for name in results[True][1]:
        np.testing.assert_allclose(results[True][1][name], results[False][1][name], atol=2e-5)


def test_right_padding_in_a_batch_agrees():
    mask = np.ones((2, 9), np.int64)
    mask[1, 6:] = 0
    fused, apart = (run("llama", kind, mask, 9, {})["logits"] for kind in (True, False))
    real = mask.astype(bool)
    np.testing.assert_allclose(fused[real], apart[real], atol=2e-5)


def test_left_padding_does_not_agree_as_its_limits_say():
    mask = np.ones((2, 9), np.int64)
    mask[1, :3] = 0
    fused, apart = (run("llama", kind, mask, 9, {})["logits"] for kind in (True, False))
    assert np.abs(fused[1, 3:] - apart[1, 3:]).max() > 1e-2


def test_the_window_is_kept():
    (node, *_) = (n for n in both("mistral")[0].model.graph if n.op_type == "GroupQueryAttention")
    assert node.attributes["local_window_size"].value == 8
    (plain, *_) = (n for n in both("llama")[0].model.graph if n.op_type == "GroupQueryAttention")
    assert "local_window_size" not in plain.attributes


def test_outputs_keep_their_names():
    names = [value.name for value in both("llama")[0].model.graph.outputs]
    assert names == ["logits", "present.0.key", "present.0.value"]


def test_sizes_that_the_operator_does_not_rotate_are_not_fused(monkeypatch):
    monkeypatch.setattr(fused_attention, "MULTIPLE", 64)
    lowered = lower_rotations(prepared("llama").raised, "contrib")
    operators = [node.op_type for node in lowered.model.graph]
    assert not lowered.fused and "GroupQueryAttention" not in operators
    assert operators.count("RotaryEmbedding") == 2


def test_a_mask_that_is_not_causal_is_not_fused(monkeypatch):
    monkeypatch.setattr(fused_attention, "as_causal", lambda *_: None)
    assert not lower_rotations(prepared("llama").raised, "contrib").fused
